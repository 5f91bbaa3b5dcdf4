//! How a training run is summed up: a block for people, an object for programs.

use std::fmt;
use std::path::{Path, PathBuf};

use rookery_common::configuration::Configuration;
use serde::Serialize;

use crate::format;
use crate::run_directory::{Bottleneck, Diagnosis, Outcome};

/// What `rookery train --json` prints as its last line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TrainReport {
    /// Environment steps consumed.
    pub(crate) env_steps: u64,
    /// Updates done.
    pub(crate) updates: u64,
    /// Seconds of training: from the first round's collection to the end of the last update.
    pub(crate) wall_seconds: f64,
    /// Over `wall_seconds`.
    pub(crate) env_steps_per_second: f64,
    /// Over the last 100 training episodes.
    pub(crate) mean_return: Option<f64>,
    /// Of the final policy, without exploration.
    pub(crate) evaluation_return: Option<f64>,
    /// Seconds of training before the threshold was first reached.
    pub(crate) solved_at_seconds: Option<f64>,
    /// Environment steps before the threshold was first reached.
    pub(crate) solved_at_env_steps: Option<u64>,
    /// Of all parameters, in lower-case hexadecimal.
    pub(crate) parameters_sha256: String,
    /// What limited the run at its end; none where it was over too soon to tell.
    pub(crate) bottleneck: Option<Bottleneck>,
    /// What looked sick at its end.
    pub(crate) diagnoses: Vec<Diagnosis>,
    /// The run's folder.
    pub(crate) run_dir: PathBuf,
}

/// The block that ends `rookery train`.
#[derive(Debug)]
pub(crate) struct Closing<'a> {
    /// The figures.
    pub(crate) report: &'a TrainReport,
    /// How training ended.
    pub(crate) outcome: Outcome,
    /// Consumed unrolls whose environments had been reset before them.
    pub(crate) discontinuities: u64,
    /// Why the last of them had been.
    pub(crate) last_discontinuity: Option<&'a str>,
    /// What was trained.
    pub(crate) configuration: &'a Configuration,
    /// The policy's file.
    pub(crate) policy: &'a Path,
    /// How the user calls this program.
    pub(crate) program: &'a str,
}

impl Closing<'_> {
    /// What people want to know first.
    fn headline(&self) -> String {
        let id = &self.configuration.environment.id;
        let threshold = self.configuration.run.solved_return;
        let mean = format::optional_return(self.report.mean_return);
        match (
            self.report.solved_at_seconds,
            self.report.solved_at_env_steps,
            threshold,
        ) {
            (Some(seconds), Some(env_steps), Some(threshold)) => format!(
                "Solved {id}: a mean training return of {} over 100 episodes was reached after {} \
                 and {} steps.",
                format::episode_return(threshold),
                format::duration(seconds),
                format::grouped(env_steps),
            ),
            (_, _, Some(threshold)) if self.outcome == Outcome::Finished => format!(
                "Did not solve {id}: the mean training return ended at {mean}, the threshold is {}.",
                format::episode_return(threshold),
            ),
            _ if self.outcome == Outcome::Finished => {
                format!("Trained {id}: the mean training return ended at {mean}.")
            }
            _ => format!("Stopped training {id} early, with a checkpoint."),
        }
    }

    fn figures(&self) -> Vec<Vec<String>> {
        let report = self.report;
        let row = |name: &str, value: String| vec![format!("  {name}"), value];
        let mut rows = vec![
            row(
                "training",
                format!(
                    "{} steps in {} ({} steps/s), {} updates",
                    format::grouped(report.env_steps),
                    format::duration(report.wall_seconds),
                    format::rate(report.env_steps_per_second),
                    format::grouped(report.updates),
                ),
            ),
            row(
                "training return",
                format!(
                    "{} over the last 100 episodes",
                    format::optional_return(report.mean_return)
                ),
            ),
        ];
        if let Some(value) = report.evaluation_return {
            rows.push(row(
                "evaluation return",
                format!(
                    "{} over {} episodes without exploration",
                    format::episode_return(value),
                    self.configuration.evaluation.episodes
                ),
            ));
        }
        if self.discontinuities > 0 {
            rows.push(row(
                "determinism",
                format!(
                    "off: {} unrolls began from reset environments{}; metrics.jsonl has every reason",
                    format::grouped(self.discontinuities),
                    self.last_discontinuity
                        .and_then(|reason| reason.lines().next())
                        .map(|reason| format!(", the last since {}", format::printable(reason)))
                        .unwrap_or_default()
                ),
            ));
        }
        if let Some(bottleneck) = &report.bottleneck {
            rows.push(row(
                "limited by",
                format!("{}: {}", bottleneck.stage, bottleneck.advice),
            ));
        }
        for diagnosis in &report.diagnoses {
            rows.push(row(
                "looks sick",
                format!(
                    "{}: {}; {}",
                    diagnosis.name, diagnosis.cause, diagnosis.remedy
                ),
            ));
        }
        rows.extend([
            row("policy", self.policy.display().to_string()),
            row("parameters", format!("sha256 {}", report.parameters_sha256)),
            row("run directory", report.run_dir.display().to_string()),
        ]);
        rows
    }

    fn next_commands(&self) -> Vec<Vec<String>> {
        let run = self.report.run_dir.display();
        let command =
            |line: String, what: &str| vec![format!("  {} {line}", self.program), what.into()];
        let mut commands = vec![
            command(format!("evaluate {run} --episodes 100"), "play the policy"),
            command(format!("plot {run}"), "draw the learning curve"),
            command(
                format!("digest {run}"),
                "name the parameters, to compare runs",
            ),
        ];
        if self.outcome == Outcome::Stopped {
            commands.insert(
                0,
                command(format!("train {run} --resume"), "go on with the run"),
            );
        }
        commands
    }
}

impl fmt::Display for Closing<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "\n{}\n", self.headline())?;
        formatter.write_str(&format::table(&self.figures()))?;
        writeln!(formatter, "\nNext:")?;
        formatter.write_str(&format::table(&self.next_commands()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> TrainReport {
        TrainReport {
            env_steps: 262_144,
            updates: 128,
            wall_seconds: 2.9,
            env_steps_per_second: 90_394.0,
            mean_return: Some(487.25),
            evaluation_return: Some(500.0),
            solved_at_seconds: Some(2.41),
            solved_at_env_steps: Some(212_992),
            parameters_sha256: "5e".repeat(32),
            bottleneck: None,
            diagnoses: Vec::new(),
            run_dir: PathBuf::from("runs/cartpole-ppo-1-001"),
        }
    }

    fn closing(report: &TrainReport, outcome: Outcome, solved_return: Option<f64>) -> String {
        let mut configuration = Configuration::default();
        configuration.run.solved_return = solved_return;
        Closing {
            report,
            outcome,
            discontinuities: 0,
            last_discontinuity: None,
            configuration: &configuration,
            policy: &report.run_dir.join("checkpoints/latest/policy.safetensors"),
            program: "target/release/rookery",
        }
        .to_string()
    }

    #[test]
    fn a_solved_run_says_when_and_what_comes_next() {
        insta::assert_snapshot!(closing(&report(), Outcome::Finished, Some(475.0)));
    }

    #[test]
    fn a_stopped_run_says_how_to_go_on() {
        let report = TrainReport {
            mean_return: None,
            evaluation_return: None,
            solved_at_seconds: None,
            solved_at_env_steps: None,
            ..report()
        };
        insta::assert_snapshot!(closing(&report, Outcome::Stopped, Some(475.0)));
    }

    #[test]
    fn a_run_that_fell_short_says_by_how_much() {
        let report = TrainReport {
            solved_at_seconds: None,
            solved_at_env_steps: None,
            ..report()
        };
        let text = closing(&report, Outcome::Finished, Some(490.0));
        assert!(text.contains("Did not solve CartPole-v1"), "{text}");
        assert!(text.contains("487.2, the threshold is 490.0"), "{text}");
    }

    #[test]
    fn a_run_whose_environments_were_reset_says_that_determinism_is_off() {
        let text = Closing {
            report: &report(),
            outcome: Outcome::Finished,
            discontinuities: 3,
            last_discontinuity: Some("`mine:Env`: a step raised\u{1b}[2J\nTraceback"),
            configuration: &Configuration::default(),
            policy: Path::new("policy.safetensors"),
            program: "rookery",
        }
        .to_string();
        let words = "off: 3 unrolls began from reset environments, the last since `mine:Env`: a step raised\u{fffd}[2J; ";
        assert!(text.contains(words), "{text}");
    }

    #[test]
    fn a_run_says_what_limited_it_and_what_looked_sick() {
        let report = TrainReport {
            bottleneck: Some(Bottleneck {
                stage: "environment".to_owned(),
                busy_ratio: 0.9,
                advice: "6 actors like these 2 would collect as fast as the learner learns"
                    .to_owned(),
                suggested_actors: Some(6),
            }),
            diagnoses: vec![Diagnosis {
                name: "policy_jumps".to_owned(),
                cause: "approx_kl is 0.3 nats".to_owned(),
                remedy: "lower ppo.learning_rate (now 0.1)".to_owned(),
                since_env_steps: 10_000,
            }],
            ..report()
        };
        let text = closing(&report, Outcome::Finished, None);
        assert!(
            text.contains("  limited by         environment: 6 actors like these 2"),
            "{text}"
        );
        assert!(
            text.contains("  looks sick         policy_jumps: approx_kl is 0.3 nats; lower ppo"),
            "{text}"
        );
    }

    #[test]
    fn the_object_has_exactly_the_documented_keys() {
        let report = TrainReport {
            solved_at_seconds: None,
            solved_at_env_steps: None,
            ..report()
        };
        let value = serde_json::to_value(report).unwrap();
        let object = value.as_object().unwrap();
        let mut keys: Vec<_> = object.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "bottleneck",
                "diagnoses",
                "env_steps",
                "env_steps_per_second",
                "evaluation_return",
                "mean_return",
                "parameters_sha256",
                "run_dir",
                "solved_at_env_steps",
                "solved_at_seconds",
                "updates",
                "wall_seconds",
            ]
        );
        assert!(object["solved_at_seconds"].is_null());
    }
}
