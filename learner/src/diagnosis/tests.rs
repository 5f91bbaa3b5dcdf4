//! Every rule with a run that raises it and one that comes close and does not.

use rookery_common::configuration::Algorithm;
use rookery_common::policy::Activation;
use rookery_common::spaces::Space;

use super::*;
use crate::algorithms::a2c::A2cStatistics;
use crate::algorithms::dqn::DqnStatistics;
use crate::algorithms::policy_gradient::StepStatistics;
use crate::algorithms::ppo::PpoStatistics;
use crate::algorithms::replayed::ReplayStatistics;
use crate::algorithms::sac::SacStatistics;
use crate::algorithms::twin_critics::CriticStatistics;

/// Updates of a run.
const UPDATES: u64 = 1_000;
const STEPS: u64 = 100;

/// A run of seconds, judged by its figures.
struct Run {
    diagnostics: Diagnostics,
    policy: PolicySpec,
    update: u64,
    mean_return: Option<f64>,
    is_solved: bool,
    largest_reward: f64,
}

fn policy(action: &Space) -> PolicySpec {
    PolicySpec::new(
        &Space::bounded(&[-1.0], &[1.0]),
        action,
        vec![8],
        Activation::Tanh,
    )
    .unwrap()
}

impl Run {
    fn new(configuration: &Configuration) -> Self {
        Self {
            diagnostics: Diagnostics::new(configuration),
            policy: policy(&Space::Discrete { n: 2 }),
            update: 0,
            mean_return: Some(10.0),
            is_solved: false,
            largest_reward: 1.0,
        }
    }

    fn of(algorithm: Algorithm) -> Self {
        let mut configuration = Configuration::default();
        configuration.run.algorithm = algorithm;
        Self::new(&configuration)
    }

    /// Goes on for `updates`, the figures of each a function of its number, and says what is raised and
    /// what is cleared.
    fn go_on(
        &mut self,
        updates: u64,
        figures: impl Fn(u64) -> Statistics,
    ) -> Vec<(u64, &'static str, bool)> {
        let mut news = Vec::new();
        for _ in 0..updates {
            self.update += 1;
            let statistics = figures(self.update);
            let changes = self.diagnostics.observe(&Observed {
                statistics: &statistics,
                policy: &self.policy,
                moment: Moment {
                    update: self.update,
                    env_steps: STEPS * self.update,
                    share: self.update as f64 / UPDATES as f64,
                    seconds: 1e-3 * self.update as f64,
                },
                mean_return: self.mean_return,
                is_solved: self.is_solved,
                largest_reward: self.largest_reward,
                clocks: Clocks {
                    learner: Default::default(),
                    collectors: CollectorSeconds::default(),
                    threads: 1,
                },
            });
            for change in changes {
                let (diagnosis, is_raised) = match &change {
                    Change::Raised(diagnosis) => (diagnosis, true),
                    Change::Cleared(diagnosis) => (diagnosis, false),
                };
                news.push((self.update, diagnosis.rule.name(), is_raised));
            }
        }
        news
    }

    /// The names of what stands.
    fn raised(&self) -> Vec<&'static str> {
        let raised = self.diagnostics.raised().iter();
        raised.map(|diagnosis| diagnosis.rule.name()).collect()
    }

    fn only(&self) -> &Diagnosis {
        let [diagnosis] = self.diagnostics.raised() else {
            panic!("{:?}", self.raised());
        };
        diagnosis
    }
}

/// An update of a run that learns.
fn healthy() -> PpoStatistics {
    PpoStatistics {
        policy_loss: -0.01,
        value_loss: 2.0,
        entropy: 0.6,
        approximate_kl: 0.008,
        clip_fraction: 0.1,
        explained_variance: Some(0.5),
        gradient_norm: 0.3,
        initial_log_ratio: 1e-7,
        rho_clip_fraction: None,
        c_clip_fraction: None,
        learning_rate: 3e-4,
        clip_range: 0.2,
        gradient_steps: 40,
        skipped_steps: 0,
        stopped_early: false,
    }
}

fn ppo(change: impl Fn(&mut PpoStatistics)) -> Statistics {
    let mut statistics = healthy();
    change(&mut statistics);
    Statistics::Ppo(statistics)
}

fn dqn(q_mean: f64, gradient_steps: u64) -> Statistics {
    Statistics::Dqn(DqnStatistics {
        q_mean: Some(q_mean),
        gradient_steps,
        replay: ReplayStatistics {
            replay_size: 500,
            ..ReplayStatistics::default()
        },
        ..DqnStatistics::default()
    })
}

fn sac(temperature: f64, entropy: f64) -> Statistics {
    Statistics::Sac(SacStatistics {
        critics: CriticStatistics {
            q_mean: Some(-20.0),
            gradient_steps: 16,
            ..CriticStatistics::default()
        },
        entropy: Some(entropy),
        target_entropy: -1.0,
        temperature,
        ..SacStatistics::default()
    })
}

#[test]
fn a_run_that_learns_raises_nothing() {
    let mut run = Run::of(Algorithm::Ppo);
    let figures = |update: u64| {
        let done = update as f64 / UPDATES as f64;
        ppo(|statistics| {
            statistics.entropy = 0.69 * (1.0 - done);
            statistics.value_loss = 5.0 + 30.0 * done;
            statistics.explained_variance = Some(8.0 * done - 0.5);
            statistics.learning_rate = 3e-4 * (1.0 - done);
            statistics.clip_fraction = 0.1 * (1.0 - done);
        })
    };
    assert_eq!(run.go_on(UPDATES, figures), []);
}

#[test]
fn entropy_that_is_gone_early_is_raised_and_cleared() {
    let mut run = Run::of(Algorithm::Ppo);
    run.go_on(50, |_| ppo(|_| {}));
    let gone = |_| ppo(|statistics| statistics.entropy = 1e-3);
    let raised = run.go_on(250, gone);
    assert_eq!(raised.len(), 1, "{raised:?}");
    let diagnosis = run.only();
    assert_eq!(diagnosis.rule, Rule::EntropyCollapsed);
    assert!(diagnosis.cause.contains("below 0.035"), "{diagnosis:?}");
    assert!(
        diagnosis
            .remedy
            .contains("ppo.entropy_coefficient (now 0.0)"),
        "{diagnosis:?}"
    );
    // Seen before it is said.
    assert!(diagnosis.since_env_steps < STEPS * raised[0].0);
    let cleared = run.go_on(200, |_| ppo(|_| {}));
    assert_eq!(cleared.len(), 1);
    assert_eq!((cleared[0].1, cleared[0].2), ("entropy_collapsed", false));
    assert_eq!(run.raised(), Vec::<&str>::new());
}

#[test]
fn entropy_that_is_gone_late_or_from_a_solved_or_growing_run_is_fine() {
    let gone = |_| ppo(|statistics| statistics.entropy = 1e-3);
    let mut late = Run::of(Algorithm::Ppo);
    late.go_on(500, |_| ppo(|_| {}));
    assert_eq!(late.go_on(500, gone), []);
    let mut solved = Run::of(Algorithm::Ppo);
    solved.is_solved = true;
    assert_eq!(solved.go_on(UPDATES, gone), []);
    let mut growing = Run::of(Algorithm::Ppo);
    for return_ in 0..100 {
        growing.mean_return = Some(f64::from(return_));
        assert_eq!(growing.go_on(10, gone), []);
    }
}

#[test]
fn the_entropy_of_continuous_actions_may_be_negative_and_not_without_end() {
    let mut run = Run::of(Algorithm::A2c);
    run.policy = policy(&Space::bounded(&[-2.0, -2.0], &[2.0, 2.0]));
    let of = |entropy: f64| {
        move |_| {
            Statistics::A2c(A2cStatistics {
                step: StepStatistics {
                    entropy: Some(entropy),
                    value_loss: Some(1.0),
                    gradient_steps: 1,
                    ..StepStatistics::default()
                },
                explained_variance: Some(0.5),
            })
        }
    };
    // A tenth of the deviation at the start in both dimensions, and a hundredth.
    let deviation = |sigma: f64| 2.0 * (1.418_938_5 + sigma.ln());
    assert_eq!(run.go_on(200, of(deviation(0.1))), []);
    run.go_on(200, of(deviation(0.01)));
    assert_eq!(run.raised(), ["entropy_collapsed"]);
}

#[test]
fn a_value_loss_that_grows_while_nothing_is_explained_diverges() {
    let grows = |explained: f64| {
        move |update: u64| {
            ppo(|statistics| {
                statistics.value_loss = 2.0 * (0.05 * update.saturating_sub(100) as f64).exp();
                statistics.explained_variance = Some(if update > 100 { explained } else { 0.5 });
            })
        }
    };
    let mut ill = Run::of(Algorithm::Ppo);
    let raised = ill.go_on(280, grows(-2.0));
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!(ill.only().rule, Rule::ValueLossDiverges);
    assert!(
        ill.only()
            .remedy
            .contains("ppo.max_gradient_norm (now 0.5)")
    );
    // Returns that grow make the loss grow with them, and the values lag behind.
    for explained in [0.4, -0.3] {
        let mut well = Run::of(Algorithm::Ppo);
        assert_eq!(well.go_on(280, grows(explained)), []);
    }
    let mut solved = Run::of(Algorithm::Ppo);
    solved.is_solved = true;
    assert_eq!(solved.go_on(280, grows(-2.0)), []);
}

#[test]
fn values_that_explain_nothing_for_long_are_useless() {
    let explains = |variance: f64| move |_| ppo(|s| s.explained_variance = Some(variance));
    let mut well = Run::of(Algorithm::Ppo);
    assert_eq!(well.go_on(150, explains(-0.3)), []);
    assert_eq!(well.go_on(850, explains(0.2)), []);
    let mut ill = Run::of(Algorithm::Ppo);
    ill.go_on(300, explains(-0.3));
    assert_eq!(ill.raised(), ["values_useless"]);
    let mut rising = Run::of(Algorithm::Ppo);
    for update in 0..300 {
        rising.mean_return = Some(f64::from(update / 10));
        assert_eq!(rising.go_on(1, explains(-0.3)), []);
    }
    assert!(ill.only().remedy.contains("ppo.gae_lambda (now 0.95)"));
}

#[test]
fn a_divergence_above_the_target_jumps() {
    let kl = |nats: f64| move |_| ppo(|s| s.approximate_kl = nats);
    let mut well = Run::of(Algorithm::Ppo);
    assert_eq!(well.go_on(UPDATES, kl(0.09)), []);
    let mut ill = Run::of(Algorithm::Ppo);
    ill.go_on(100, kl(0.3));
    assert_eq!(ill.raised(), ["policy_jumps"]);
    assert!(ill.only().cause.contains("0.300 nats"), "{:?}", ill.only());

    let mut configuration = Configuration::default();
    configuration.ppo.target_kl = Some(0.02);
    let mut aimed = Run::new(&configuration);
    assert_eq!(aimed.go_on(200, kl(0.029)), []);
    aimed.go_on(100, kl(0.09));
    assert_eq!(aimed.raised(), ["policy_jumps"]);
}

#[test]
fn one_update_that_jumps_is_an_accident() {
    let mut run = Run::of(Algorithm::Ppo);
    let figures = |update: u64| {
        ppo(|statistics| {
            if update.is_multiple_of(40) {
                statistics.approximate_kl = 1.0;
                statistics.clip_fraction = 0.9;
            }
        })
    };
    assert_eq!(run.go_on(UPDATES, figures), []);
}

#[test]
fn a_clip_fraction_near_one_or_zero_is_raised() {
    let clips = |fraction: f64| move |_| ppo(|s| s.clip_fraction = fraction);
    let mut well = Run::of(Algorithm::Ppo);
    assert_eq!(well.go_on(500, clips(0.45)), []);
    assert_eq!(well.go_on(500, clips(0.002)), []);
    let mut often = Run::of(Algorithm::Ppo);
    often.go_on(100, clips(0.7));
    assert_eq!(often.raised(), ["clipped_too_often"]);
    let mut never = Run::of(Algorithm::Ppo);
    never.go_on(300, clips(0.0));
    assert_eq!(never.raised(), ["never_clipped"]);
}

#[test]
fn nothing_is_clipped_where_the_step_size_has_been_annealed_or_the_run_is_solved() {
    let mut annealed = Run::of(Algorithm::Ppo);
    let still = |_| {
        ppo(|statistics| {
            statistics.clip_fraction = 0.0;
            statistics.learning_rate = 5e-5;
        })
    };
    assert_eq!(annealed.go_on(UPDATES, still), []);
    let mut solved = Run::of(Algorithm::Ppo);
    solved.is_solved = true;
    assert_eq!(
        solved.go_on(UPDATES, |_| ppo(|s| s.clip_fraction = 0.0)),
        []
    );
    let mut single = Run::of(Algorithm::Ppo);
    let step = |_| {
        ppo(|statistics| {
            statistics.clip_fraction = 0.0;
            statistics.gradient_steps = 1;
        })
    };
    assert_eq!(single.go_on(UPDATES, step), []);
}

#[test]
fn gradients_that_are_not_finite_are_said_at_once_and_forgiven_later() {
    let mut run = Run::of(Algorithm::Ppo);
    run.go_on(50, |_| ppo(|_| {}));
    let spoilt = |_| {
        ppo(|statistics| {
            statistics.skipped_steps = 3;
            statistics.value_loss = f64::NAN;
        })
    };
    assert_eq!(run.go_on(1, spoilt), [(51, "gradients_not_finite", true)]);
    assert!(
        run.only()
            .cause
            .starts_with("3 of an update's 43 gradients")
    );
    let cleared = run.go_on(100, |_| ppo(|_| {}));
    // A twentieth of the run later, up to rounding.
    assert!(
        matches!(cleared[..], [(102..=103, "gradients_not_finite", false)]),
        "{cleared:?}"
    );
}

#[test]
fn action_values_beyond_any_return_explode() {
    // Rewards of one and a discount of 0.99: at most a hundred.
    let mut well = Run::of(Algorithm::Dqn);
    assert_eq!(well.go_on(UPDATES, |_| dqn(150.0, 16)), []);
    let mut ill = Run::of(Algorithm::Dqn);
    ill.go_on(100, |_| dqn(-1e6, 16));
    assert_eq!(ill.raised(), ["q_values_explode"]);
    assert!(ill.only().cause.contains("-1.00e6"), "{:?}", ill.only());
    assert!(
        ill.only()
            .remedy
            .contains("dqn.target_update_every (now 500)")
    );
    // Before there was any reward nobody knows.
    let mut unknown = Run::of(Algorithm::Dqn);
    unknown.largest_reward = 0.0;
    assert_eq!(unknown.go_on(UPDATES, |_| dqn(1e6, 16)), []);
}

#[test]
fn the_entropy_that_sac_is_paid_for_counts_as_a_reward() {
    let mut run = Run::of(Algorithm::Sac);
    run.policy = policy(&Space::bounded(&[-2.0], &[2.0]));
    run.largest_reward = 0.05;
    // At most (0.05 + 0.5 * 1) * 100 = 55.
    assert_eq!(run.go_on(UPDATES, |_| sac(0.5, -1.0)), []);
}

#[test]
fn a_temperature_that_leaves_rewards_no_say_or_has_none_itself_is_raised() {
    let mut well = Run::of(Algorithm::Sac);
    well.policy = policy(&Space::bounded(&[-2.0], &[2.0]));
    assert_eq!(well.go_on(500, |_| sac(9.0, -1.0)), []);
    // The policy still explores more than it must.
    assert_eq!(well.go_on(500, |_| sac(1e-6, -0.5)), []);
    let mut explodes = Run::of(Algorithm::Sac);
    explodes.go_on(100, |_| sac(50.0, -1.2));
    assert!(explodes.raised().contains(&"temperature_explodes"));
    let mut collapsed = Run::of(Algorithm::Sac);
    collapsed.go_on(100, |_| sac(1e-6, -1.5));
    assert!(collapsed.raised().contains(&"temperature_collapsed"));

    let mut configuration = Configuration::default();
    configuration.run.algorithm = Algorithm::Sac;
    configuration.sac.learns_temperature = false;
    let mut fixed = Run::new(&configuration);
    fixed.policy = policy(&Space::bounded(&[-2.0], &[2.0]));
    assert_eq!(fixed.go_on(UPDATES, |_| sac(1e-6, -1.5)), []);
}

#[test]
fn too_few_gradient_steps_starve() {
    let mut well = Run::of(Algorithm::Dqn);
    // A store that fills for a tenth of the run.
    assert_eq!(well.go_on(100, |_| dqn(0.0, 0)), []);
    assert_eq!(well.go_on(900, |_| dqn(1.0, 10)), []);
    let mut ill = Run::of(Algorithm::Dqn);
    ill.go_on(300, |_| dqn(1.0, 4));
    assert_eq!(ill.raised(), ["replay_starved"]);
    assert!(ill.only().cause.contains("of 16 that are configured"));
}

#[test]
fn training_that_becomes_slow_is_raised_with_its_stage() {
    let mut diagnostics = Diagnostics::new(&Configuration::default());
    let statistics = Statistics::Ppo(healthy());
    let policy = policy(&Space::Discrete { n: 2 });
    let mut clocks = Clocks {
        learner: Default::default(),
        collectors: CollectorSeconds::default(),
        threads: 2,
    };
    let mut changes = Vec::new();
    let mut env_steps = 0;
    for second in 0..1_000_u64 {
        let is_slow = second >= 600;
        env_steps += if is_slow { 400 } else { 1_000 };
        clocks.collectors.environment += if is_slow { 1.8 } else { 0.5 };
        changes.extend(diagnostics.observe(&Observed {
            statistics: &statistics,
            policy: &policy,
            moment: Moment {
                update: second,
                env_steps,
                share: second as f64 / 1e5,
                seconds: second as f64,
            },
            mean_return: None,
            is_solved: false,
            largest_reward: 1.0,
            clocks,
        }));
    }
    let [Change::Raised(diagnosis)] = changes.as_slice() else {
        panic!("{changes:?}");
    };
    assert_eq!(diagnosis.rule, Rule::ThroughputFell);
    assert!(
        diagnosis
            .cause
            .starts_with("400 environment steps per second"),
        "{diagnosis:?}"
    );
    assert!(
        diagnosis.cause.contains("the stage environment"),
        "{diagnosis:?}"
    );
}

#[test]
fn names_are_those_of_serde_and_differ() {
    for rule in Rule::ALL {
        assert_eq!(serde_json::to_value(rule).unwrap(), rule.name());
        assert_eq!(
            Rule::ALL
                .iter()
                .filter(|other| other.name() == rule.name())
                .count(),
            1
        );
    }
    for limit in Limit::ALL {
        assert_eq!(serde_json::to_value(limit).unwrap(), limit.name());
    }
}

#[test]
fn figures_show_three_digits() {
    for (value, expected) in [
        (0.0, "0.000"),
        (0.123_4, "0.123"),
        (-1.234, "-1.23"),
        (12.34, "12.3"),
        (1234.5, "1234"),
        (2.5e-5, "2.50e-5"),
        (-1e6, "-1.00e6"),
    ] {
        assert_eq!(figure(value), expected);
    }
}
