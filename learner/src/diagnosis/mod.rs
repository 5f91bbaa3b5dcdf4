//! Whether a run looks sick, and what holds it back: state machines without I/O and clock that are fed
//! with every update's figures, environment steps and seconds. What they say changes nothing of what is
//! trained; who tells people of it is the observer.

mod collectors;
mod signals;
mod standing;
mod throughput;
mod rules;
mod remedies;
mod advice;
pub mod bottleneck;

use rookery_common::configuration::Configuration;
use rookery_common::policy::PolicySpec;
use serde::Serialize;

pub use bottleneck::{BottleneckWatch, Limit, RunShape, Sample, Verdict};
pub use collectors::CollectorSeconds;
pub use rules::Rule;
pub use standing::{Moment, Patience};
pub use throughput::Clocks;

use crate::algorithms::Statistics;
use remedies::Remedies;
use signals::{SMOOTHED_UPDATES, Signals, Smoothed};
use standing::{Edge, Reading, Standing};
use throughput::Throughput;

/// Something that looks sick.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The rule's name.
    #[serde(rename = "name")]
    pub rule: Rule,
    /// What was seen, with the figure.
    pub cause: String,
    /// What helps.
    pub remedy: String,
    /// Environment steps consumed when it was first seen.
    pub since_env_steps: u64,
}

/// What has become of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It looks sick from now on.
    Raised(Diagnosis),
    /// It does no more.
    Cleared(Diagnosis),
}

/// What one update is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The algorithm's figures.
    pub statistics: &'a Statistics,
    /// What acts.
    pub policy: &'a PolicySpec,
    /// When.
    pub moment: Moment,
    /// Over the last training episodes.
    pub mean_return: Option<f64>,
    /// Whether the configured threshold has been reached.
    pub is_solved: bool,
    /// The largest size of a reward in the round.
    pub largest_reward: f64,
    /// Where the clocks of both sides stand.
    pub clocks: Clocks,
}

/// Every rule with its state.
#[derive(Debug)]
pub struct Diagnostics {
    configuration: Configuration,
    remedies: Remedies,
    standings: [Standing; Rule::ALL.len()],
    raised: Vec<Diagnosis>,
    entropy: Smoothed,
    value_loss: Smoothed,
    explained_variance: Smoothed,
    approximate_kl: Smoothed,
    clip_fraction: Smoothed,
    q_mean: Smoothed,
    gradient_steps: Smoothed,
    /// Of the smoothed loss.
    least_value_loss: Option<f64>,
    best_return: Option<f64>,
    is_improving: bool,
    largest_reward: f64,
    throughput: Throughput,
    newest: Signals,
}

impl Diagnostics {
    /// Starts with a run that looks well.
    #[must_use]
    pub fn new(configuration: &Configuration) -> Self {
        Self {
            configuration: configuration.clone(),
            remedies: Remedies::new(configuration),
            standings: Rule::ALL.map(|rule| Standing::new(rule.patience(), rule.clearance())),
            raised: Vec::new(),
            entropy: Smoothed::default(),
            value_loss: Smoothed::default(),
            explained_variance: Smoothed::default(),
            approximate_kl: Smoothed::default(),
            clip_fraction: Smoothed::default(),
            q_mean: Smoothed::default(),
            gradient_steps: Smoothed::default(),
            least_value_loss: None,
            best_return: None,
            is_improving: false,
            largest_reward: 0.0,
            throughput: Throughput::default(),
            newest: Signals::default(),
        }
    }

    /// What looks sick now, in the order in which it was raised.
    #[must_use]
    pub fn raised(&self) -> &[Diagnosis] {
        &self.raised
    }

    /// What helps against what a rule is there for.
    #[must_use]
    pub fn remedy(&self, rule: Rule) -> String {
        self.remedies.of(rule)
    }

    /// Leaves the time up to the next update out of the throughput, as that of a pause.
    pub fn interrupt(&mut self) {
        self.throughput.interrupt();
    }

    /// Takes an update's figures and says what has changed.
    pub fn observe(&mut self, observed: &Observed<'_>) -> Vec<Change> {
        self.take(observed);
        let mut changes = Vec::new();
        for (index, rule) in Rule::ALL.into_iter().enumerate() {
            let reading = Reading::of(self.is_sick(rule, observed));
            match self.standings[index].observe(reading, &observed.moment) {
                None => {}
                Some(Edge::Raised(since)) => {
                    let diagnosis = Diagnosis {
                        rule,
                        cause: self.cause(rule, observed),
                        remedy: self.remedies.of(rule),
                        since_env_steps: since.env_steps,
                    };
                    self.raised.push(diagnosis.clone());
                    changes.push(Change::Raised(diagnosis));
                }
                Some(Edge::Cleared) => {
                    let cleared = self.raised.extract_if(.., |raised| raised.rule == rule);
                    changes.extend(cleared.map(Change::Cleared));
                }
            }
        }
        changes
    }

    fn take(&mut self, observed: &Observed<'_>) {
        let signals = Signals::from(observed.statistics);
        self.entropy.push(signals.entropy);
        self.value_loss.push(signals.value_loss);
        self.explained_variance.push(signals.explained_variance);
        self.approximate_kl.push(signals.approximate_kl);
        self.clip_fraction.push(signals.clip_fraction);
        self.q_mean.push(signals.q_mean);
        self.gradient_steps.push(Some(
            (signals.gradient_steps + signals.skipped_steps) as f64,
        ));
        self.newest = signals;
        if let Some(loss) = self.value_loss.get().filter(|loss| *loss > 0.0) {
            let least = self.least_value_loss.unwrap_or(loss);
            self.least_value_loss = Some(least.min(loss));
        }
        self.is_improving = match (observed.mean_return, self.best_return) {
            (Some(now), Some(best)) => now > best,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if self.is_improving {
            self.best_return = observed.mean_return;
        }
        if observed.largest_reward.is_finite() {
            self.largest_reward = self.largest_reward.max(observed.largest_reward);
        }
        // While a store fills nothing is learnt, and collecting is as fast as it never will be again.
        let is_filling = signals.replay_size.is_some() && signals.gradient_steps == 0;
        if is_filling {
            self.throughput.interrupt();
        } else {
            self.throughput.push(&observed.moment, &observed.clocks);
        }
    }

    /// Whether a rule sees what it is there for; `None` where it cannot be said.
    fn is_sick(&self, rule: Rule, observed: &Observed<'_>) -> Option<bool> {
        match rule {
            Rule::EntropyCollapsed => {
                let is_low = self.entropy.get()? < self.collapsed_entropy(observed)?;
                let is_excused = observed.is_solved || self.is_improving;
                let is_early = observed.moment.share < rules::EARLY_SHARE;
                (is_early || !is_low).then_some(is_low && !is_excused)
            }
            Rule::ValueLossDiverges => {
                let has_grown =
                    self.value_loss.get()? > rules::DIVERGED_RATIO * self.least_value_loss?;
                let is_wild = self.explained_variance.get()? < rules::DIVERGED_VARIANCE;
                // Once it is solved, returns hardly differ, and whatever errs by little looks wild.
                (!observed.is_solved).then_some(has_grown && is_wild)
            }
            Rule::ValuesUseless => {
                let is_low = self.explained_variance.get()? < 0.0;
                // As above: there is little to explain then. While returns rise, values lag behind them and do no harm.
                (!observed.is_solved).then_some(is_low && !self.is_improving)
            }
            Rule::PolicyJumps => Some(self.approximate_kl.get()? > self.max_approximate_kl()),
            Rule::ClippedTooOften => Some(self.clip_fraction.get()? > rules::MAX_CLIP_FRACTION),
            Rule::NeverClipped => {
                let step_size = self.configuration.ppo.learning_rate;
                let is_annealed = self.newest.learning_rate < rules::ANNEALED_RATIO * step_size;
                // An update of one step moves nothing before that: there every ratio is one.
                let has_moved = self.newest.gradient_steps > 1;
                let is_judged = has_moved && !is_annealed && !observed.is_solved;
                is_judged.then_some(self.clip_fraction.get()? < rules::MIN_CLIP_FRACTION)
            }
            Rule::GradientsNotFinite => Some(self.newest.skipped_steps > 0),
            Rule::ThroughputFell => self.throughput.judge().map(|judged| judged.is_err()),
            Rule::QValuesExplode => {
                Some(self.q_mean.get()?.abs() > rules::MAX_Q_RATIO * self.largest_return()?)
            }
            Rule::TemperatureExplodes => {
                let start = self.configuration.sac.initial_temperature;
                let largest = self.largest_reward.max(start);
                Some(self.learnt_temperature()? > rules::MAX_TEMPERATURE_RATIO * largest)
            }
            Rule::TemperatureCollapsed => {
                let is_low =
                    self.learnt_temperature()? < rules::MIN_TEMPERATURE_RATIO * self.largest_reward;
                Some(is_low && self.entropy.get()? < self.newest.target_entropy?)
            }
            Rule::ReplayStarved => {
                self.newest.replay_size?;
                Some(self.gradient_steps.get()? < rules::STARVED_RATIO * self.wanted_steps())
            }
        }
    }

    /// What a rule has seen, with the figures.
    fn cause(&self, rule: Rule, observed: &Observed<'_>) -> String {
        let of = |smoothed: &Smoothed| figure(smoothed.get().unwrap_or(f64::NAN));
        let mean = format!("mean over about {SMOOTHED_UPDATES} updates");
        match rule {
            Rule::EntropyCollapsed => format!(
                "the policy's entropy is {} nats ({mean}), below {}, after {:.0} % of the run, and the \
                 return does not grow: it hardly explores any more",
                of(&self.entropy),
                figure(self.collapsed_entropy(observed).unwrap_or(f64::NAN)),
                100.0 * observed.moment.share,
            ),
            Rule::ValueLossDiverges => format!(
                "the value loss is {} ({mean}), more than {} times its least, {}, and the values err by more \
                 than the returns vary (explained variance {})",
                of(&self.value_loss),
                rules::DIVERGED_RATIO,
                figure(self.least_value_loss.unwrap_or(f64::NAN)),
                of(&self.explained_variance),
            ),
            Rule::ValuesUseless => format!(
                "the explained variance is {} ({mean}), below 0 for long: the values tell less than their \
                 mean would",
                of(&self.explained_variance),
            ),
            Rule::PolicyJumps => format!(
                "approx_kl is {} nats ({mean}), above {}: updates move the policy too far",
                of(&self.approximate_kl),
                figure(self.max_approximate_kl()),
            ),
            Rule::ClippedTooOften => format!(
                "the clip fraction is {} ({mean}), above {}: what is clipped teaches nothing",
                of(&self.clip_fraction),
                rules::MAX_CLIP_FRACTION,
            ),
            Rule::NeverClipped => format!(
                "the clip fraction is {} ({mean}), below {}: updates hardly move the policy",
                of(&self.clip_fraction),
                rules::MIN_CLIP_FRACTION,
            ),
            Rule::GradientsNotFinite => format!(
                "{} of an update's {} gradients were not finite and moved nothing",
                self.newest.skipped_steps,
                self.newest.skipped_steps + self.newest.gradient_steps,
            ),
            Rule::ThroughputFell => self.slowness(),
            Rule::QValuesExplode => format!(
                "the mean action value is {} ({mean}), more than {} times {}, the largest return that \
                 rewards of at most {} can come to",
                of(&self.q_mean),
                rules::MAX_Q_RATIO,
                figure(self.largest_return().unwrap_or(f64::NAN)),
                figure(self.largest_reward),
            ),
            Rule::TemperatureExplodes => format!(
                "the temperature is {}, more than {} times its start and the largest reward, {}: actions \
                 are chosen for their entropy alone",
                figure(self.newest.temperature.unwrap_or(f64::NAN)),
                rules::MAX_TEMPERATURE_RATIO,
                figure(self.largest_reward),
            ),
            Rule::TemperatureCollapsed => format!(
                "the temperature is {}, next to nothing beside rewards of up to {}, while the entropy, {} \
                 nats, is below its target, {}",
                figure(self.newest.temperature.unwrap_or(f64::NAN)),
                figure(self.largest_reward),
                of(&self.entropy),
                figure(self.newest.target_entropy.unwrap_or(f64::NAN)),
            ),
            Rule::ReplayStarved => format!(
                "{} gradient steps an update ({mean}) of {} that are configured; the store holds {} \
                 transitions",
                of(&self.gradient_steps),
                self.wanted_steps(),
                self.newest.replay_size.unwrap_or(0),
            ),
        }
    }

    fn slowness(&self) -> String {
        let Some(Err(slow)) = self.throughput.judge() else {
            return String::new();
        };
        let mut text = format!(
            "{:.0} environment steps per second over two minutes, {:.0} before, with no fewer threads",
            slow.now, slow.usual
        );
        if let Some((stage, now, then)) = slow.stage {
            text = format!(
                "{text}: the stage {stage} takes {} ms a step, {} before",
                figure(1e3 * now),
                figure(1e3 * then)
            );
        }
        text
    }

    fn collapsed_entropy(&self, observed: &Observed<'_>) -> Option<f64> {
        rules::collapsed_entropy(&self.configuration, observed.policy)
    }

    fn max_approximate_kl(&self) -> f64 {
        match self.configuration.ppo.target_kl {
            Some(target) => rules::TARGET_KL_MARGIN * target,
            None => rules::MAX_APPROXIMATE_KL,
        }
    }

    /// What rewards, and the entropies that count as such, can come to at most; none without a discount
    /// that bounds it, or before there was any reward.
    fn largest_return(&self) -> Option<f64> {
        let horizon = 1.0 / (1.0 - self.configuration.discount());
        let entropy = self.entropy.get().unwrap_or(0.0).abs();
        let bonus = self.newest.temperature.unwrap_or(0.0) * entropy;
        let is_bounded = self.largest_reward > 0.0 && horizon.is_finite();
        is_bounded.then_some((self.largest_reward + bonus) * horizon)
    }

    /// Where it is learnt, and there was any reward to compare it with.
    fn learnt_temperature(&self) -> Option<f64> {
        let is_judged = self.configuration.sac.learns_temperature && self.largest_reward > 0.0;
        self.newest.temperature.filter(|_| is_judged)
    }

    fn wanted_steps(&self) -> f64 {
        use rookery_common::configuration::Algorithm;
        let configuration = &self.configuration;
        f64::from(match configuration.run.algorithm {
            Algorithm::Dqn => configuration.dqn.gradient_steps,
            Algorithm::Sac => configuration.sac.gradient_steps,
            Algorithm::Td3 => configuration.td3.gradient_steps,
            _ => 0,
        })
    }
}

/// A figure with three digits that matter.
fn figure(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e5).contains(&size) {
        return format!("{value:.2e}");
    }
    let digits = if size >= 100.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests;
