//! What a configuration must hold beyond its types.

mod schedule;
mod policy;
mod impala;
mod off_policy;
mod simple;

use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use super::violation::{Key, Problem, Violation};
use super::{
    AdvantageNormalisation, Algorithm, ByteSize, Configuration, HumanDuration, ScheduleKind,
};
use crate::security::{Address, Scheme};
use crate::wrappers;

/// Most environments of a run and most steps of an unroll.
const MAX_EXTENT: usize = 1 << 20;
/// Most rows of a round, so that rows can be counted in 31 bits.
const MAX_ROUND_ROWS: usize = (1 << 31) - 1;
/// Most environment steps of a run: a year and a half at a hundred million a second, and exact
/// as `f64`.
const MAX_ENV_STEPS: u64 = 1 << 52;
/// Most updates that are noted of a run: what a browser still draws.
const MAX_POINTS: u64 = 1_000_000;
/// Longest name of an experiment that MLflow takes.
const MAX_EXPERIMENT_BYTES: usize = 500;
/// Most threads of a process.
const MAX_THREADS: usize = 1024;

/// Everything that is wrong with `configuration`, in the order of its sections.
pub(super) fn validate(configuration: &Configuration) -> Vec<Violation> {
    let mut check = Check::default();
    check.run(configuration);
    check.rollout(configuration);
    check.schedule(configuration);
    check.policy(configuration);
    check.ppo(configuration);
    check.impala(configuration);
    check.dqn(configuration);
    check.sac(configuration);
    check.td3(configuration);
    check.a2c(configuration);
    check.reinforce(configuration);
    check.tabular(configuration);
    check.replay(configuration);
    check.statistics(configuration);
    check.learner(configuration);
    check.actor(configuration);
    check.host(configuration);
    check.security(configuration);
    check.telemetry(configuration);
    check.logging(configuration);
    check.violations
}

/// Collects violations.
#[derive(Default)]
struct Check {
    violations: Vec<Violation>,
}

impl Check {
    /// Demands that a value lies in a range.
    fn range<T: PartialOrd + Display>(&mut self, path: &str, value: T, range: impl RangeBounds<T>) {
        if !range.contains(&value) {
            self.unexpected(path, in_words(&range), value);
        }
    }

    /// Demands that a value, where there is one, lies in a range.
    fn optional_range<T: PartialOrd + Display>(
        &mut self,
        path: &str,
        value: Option<T>,
        range: impl RangeBounds<T>,
    ) {
        if let Some(value) = value {
            self.range(path, value, range);
        }
    }

    fn unexpected(&mut self, path: &str, expected: impl Into<String>, got: impl Display) {
        self.violations.push(Violation {
            keys: vec![key(path, None)],
            problem: Problem::Unexpected {
                expected: expected.into(),
                got: got.to_string(),
            },
        });
    }

    fn impossible(
        &mut self,
        keys: &[(&str, &dyn Display)],
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.violations.push(Violation {
            keys: keys
                .iter()
                .map(|(path, value)| key(path, Some(value.to_string())))
                .collect(),
            problem: Problem::Impossible {
                reason: reason.into(),
                remedy: remedy.into(),
            },
        });
    }

    fn run(&mut self, configuration: &Configuration) {
        let run = &configuration.run;
        let name_is_plain = run
            .name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !name_is_plain || run.name.starts_with('.') || run.name.len() > 128 {
            self.unexpected(
                "run.name",
                "at most 128 letters, digits, `.`, `_` and `-` that do not start with `.`",
                format!("{:?}", run.name),
            );
        }
        self.range("run.seed", run.seed, 0..=i64::MAX as u64);
        self.range(
            "run.total_env_steps",
            run.total_env_steps,
            1..=MAX_ENV_STEPS,
        );
        if run.directory.as_os_str().is_empty() {
            self.unexpected("run.directory", "a folder, such as \"runs\"", "\"\"");
        }
        if let Some(solved_return) = run.solved_return.filter(|value| !value.is_finite()) {
            self.unexpected("run.solved_return", "a finite number", solved_return);
        }
        if run.stop_when_solved && run.solved_return.is_none() {
            self.impossible(
                &[
                    ("run.stop_when_solved", &run.stop_when_solved),
                    ("run.solved_return", &or_none(run.solved_return)),
                ],
                "no return is set that would count as solved",
                "set solved_return, or stop_when_solved = false",
            );
        }
    }

    fn rollout(&mut self, configuration: &Configuration) {
        let Configuration {
            run,
            environment,
            rollout,
            ..
        } = configuration;
        if environment.id.is_empty() {
            self.unexpected(
                "environment.id",
                "an environment, such as \"CartPole-v1\"",
                "\"\"",
            );
        }
        for fault in wrappers::validate(&environment.wrappers) {
            let path = format!("environment.wrappers[{}].{}", fault.index, fault.key);
            self.unexpected(&path, fault.expected, fault.got);
        }
        let num_envs = environment.num_envs;
        self.range("environment.num_envs", num_envs, 1..=MAX_EXTENT);
        self.range(
            "rollout.envs_per_shard",
            rollout.envs_per_shard,
            1..=MAX_EXTENT,
        );
        self.range(
            "rollout.unroll_length",
            rollout.unroll_length,
            1..=MAX_EXTENT,
        );
        if rollout.envs_per_shard > 0 && !num_envs.is_multiple_of(rollout.envs_per_shard) {
            let divisors: Vec<String> = (1..=num_envs.min(MAX_EXTENT))
                .filter(|divisor| num_envs.is_multiple_of(*divisor))
                .map(|divisor| divisor.to_string())
                .collect();
            self.impossible(
                &[
                    ("environment.num_envs", &num_envs),
                    ("rollout.envs_per_shard", &rollout.envs_per_shard),
                ],
                "environments are dealt out in whole shards",
                format!("set envs_per_shard to one of {}", divisors.join(", ")),
            );
        }
        let rows = configuration.rows_per_round();
        let unrolls = configuration.unrolls_per_update();
        let extents = update_extents(configuration, &unrolls);
        if rows > MAX_ROUND_ROWS {
            self.impossible(
                &extents,
                format!("a round would hold {rows} steps, more than {MAX_ROUND_ROWS}"),
                "use fewer environments or shorter unrolls",
            );
        } else if (1..rows as u64).contains(&run.total_env_steps) {
            self.impossible(
                &[
                    ("run.total_env_steps", &run.total_env_steps),
                    extents[0],
                    extents[1],
                ],
                format!("the run would end before its first round of {rows} steps is whole"),
                format!("set total_env_steps to at least {rows}"),
            );
        }
    }

    fn ppo(&mut self, configuration: &Configuration) {
        let ppo = &configuration.ppo;
        self.range("ppo.learning_rate", ppo.learning_rate, above(0.0, 1.0));
        self.range("ppo.adam_epsilon", ppo.adam_epsilon, above(0.0, 1.0));
        self.range("ppo.adam_beta1", ppo.adam_beta1, 0.0..1.0);
        self.range("ppo.adam_beta2", ppo.adam_beta2, 0.0..1.0);
        self.range("ppo.discount", ppo.discount, 0.0..=1.0);
        self.range("ppo.gae_lambda", ppo.gae_lambda, 0.0..=1.0);
        self.vtrace_clips(
            ("ppo.vtrace_rho_clip", ppo.vtrace_rho_clip),
            ("ppo.vtrace_c_clip", ppo.vtrace_c_clip),
        );
        self.range("ppo.epochs", ppo.epochs, 1..=10_000);
        self.range("ppo.minibatch_size", ppo.minibatch_size, 1..=MAX_ROUND_ROWS);
        self.range("ppo.clip_range", ppo.clip_range, above(0.0, 1.0));
        self.optional_range(
            "ppo.value_clip_range",
            ppo.value_clip_range,
            above(0.0, 1e6),
        );
        self.range("ppo.value_coefficient", ppo.value_coefficient, 0.0..=1e6);
        self.range(
            "ppo.entropy_coefficient",
            ppo.entropy_coefficient,
            0.0..=1e6,
        );
        self.optional_range(
            "ppo.max_gradient_norm",
            ppo.max_gradient_norm,
            above(0.0, 1e6),
        );
        self.optional_range("ppo.target_kl", ppo.target_kl, above(0.0, 1e3));
        if configuration.run.algorithm != Algorithm::Ppo {
            return;
        }
        let rows = configuration.rows_per_round();
        let size = ppo.minibatch_size;
        let unrolls = configuration.unrolls_per_update();
        let [first, second] = update_extents(configuration, &unrolls);
        let keys = [("ppo.minibatch_size", &size as &dyn Display), first, second];
        if size > rows {
            self.impossible(
                &keys,
                format!("a minibatch is drawn from one round, which holds {rows} steps"),
                format!("set minibatch_size to at most {rows}"),
            );
        } else if ppo.advantage_normalisation == AdvantageNormalisation::Minibatch
            && size > 0
            && (size == 1 || rows % size == 1)
        {
            self.impossible(
                &keys,
                format!(
                    "the last minibatch of the {rows} steps of a round would hold one step, whose \
                     advantage cannot be normalised"
                ),
                "choose a size that leaves none or more than one over, or \
                 ppo.advantage_normalisation = \"batch\"",
            );
        }
    }

    fn statistics(&mut self, configuration: &Configuration) {
        let normalisation = &configuration.normalisation;
        self.range(
            "normalisation.observation_clip",
            normalisation.observation_clip,
            above(0.0, 1e6),
        );
        self.range(
            "normalisation.reward_clip",
            normalisation.reward_clip,
            above(0.0, 1e6),
        );
        let evaluation = &configuration.evaluation;
        self.optional_range(
            "evaluation.every_env_steps",
            evaluation.every_env_steps,
            1..=MAX_ENV_STEPS,
        );
        self.range("evaluation.episodes", evaluation.episodes, 1..=1_000_000);
        self.optional_range(
            "evaluation.record_every",
            evaluation.record_every,
            1..=1_000_000,
        );
        let folder = evaluation.recordings.as_deref();
        if folder.is_some_and(|folder| folder.as_os_str().is_empty()) {
            self.unexpected(
                "evaluation.recordings",
                "a folder, such as \"recordings\"",
                "\"\"",
            );
        }
        self.range(
            "evaluation.keep_recordings",
            evaluation.keep_recordings,
            1..=1_000_000,
        );
        let checkpoint = &configuration.checkpoint;
        self.optional_range(
            "checkpoint.every_updates",
            checkpoint.every_updates,
            1..=MAX_ENV_STEPS,
        );
        self.optional_range(
            "checkpoint.every",
            checkpoint.every,
            HumanDuration::from_millis(100)..=HumanDuration::from_secs(365 * 86_400),
        );
        self.range("checkpoint.keep", checkpoint.keep, 1..=1_000_000);
    }

    fn learner(&mut self, configuration: &Configuration) {
        let learner = &configuration.learner;
        self.range("learner.threads", learner.threads, 1..=MAX_THREADS);
        if let Address::Tcp {
            scheme: Scheme::Http | Scheme::Https,
            host,
            port,
        } = &learner.listen
        {
            self.impossible(
                &[("learner.listen", &learner.listen)],
                "a listener speaks TLS where security.tls_certificate is set, whatever its address",
                format!("write {}", Address::tcp(host, *port)),
            );
        }
        self.range(
            "learner.max_message",
            learner.max_message,
            ByteSize::from_bytes(1 << 16)..=ByteSize::from_mib(2048),
        );
        let day = HumanDuration::from_secs(86_400);
        self.range(
            "learner.lease_timeout",
            learner.lease_timeout,
            HumanDuration::from_millis(100)..=day,
        );
        self.range(
            "learner.shutdown_deadline",
            learner.shutdown_deadline,
            HumanDuration::from_millis(100)..=day,
        );
    }

    fn actor(&mut self, configuration: &Configuration) {
        let actor = &configuration.actor;
        self.range("actor.threads", actor.threads, 1..=MAX_THREADS);
        if matches!(actor.learner, Address::Tcp { port: 0, .. }) {
            self.unexpected("actor.learner", "a port from 1 to 65535", &actor.learner);
        }
        let hour = HumanDuration::from_secs(3600);
        self.range(
            "actor.reconnect_backoff_initial",
            actor.reconnect_backoff_initial,
            HumanDuration::from_millis(1)..=hour,
        );
        self.range(
            "actor.reconnect_backoff_max",
            actor.reconnect_backoff_max,
            HumanDuration::from_millis(1)..=hour,
        );
        if actor.reconnect_backoff_initial > actor.reconnect_backoff_max {
            self.impossible(
                &[
                    (
                        "actor.reconnect_backoff_initial",
                        &actor.reconnect_backoff_initial,
                    ),
                    ("actor.reconnect_backoff_max", &actor.reconnect_backoff_max),
                ],
                "the first wait is longer than the longest",
                "raise reconnect_backoff_max or lower reconnect_backoff_initial",
            );
        }
    }

    fn host(&mut self, configuration: &Configuration) {
        let host = &configuration.actor.host;
        if host.python.as_os_str().is_empty() {
            self.unexpected(
                "actor.host.python",
                "an interpreter, such as \"python3\"",
                "\"\"",
            );
        }
        let is_unusable = |folder: &&PathBuf| folder.to_string_lossy().contains(':');
        if let Some(folder) = host.python_path.iter().find(is_unusable) {
            self.unexpected(
                "actor.host.python_path",
                "folders without a colon in their names",
                format!("\"{}\"", folder.display()),
            );
        }
        self.range("actor.host.groups", host.groups, 1..=MAX_THREADS);
        let times = HumanDuration::from_millis(10)..=HumanDuration::from_secs(86_400);
        self.range("actor.host.step_timeout", host.step_timeout, times.clone());
        self.range("actor.host.startup_timeout", host.startup_timeout, times);
        self.range("actor.host.max_restarts", host.max_restarts, 0..=1_000_000);
        self.range(
            "actor.host.spin",
            host.spin,
            HumanDuration::from_secs(0)..=HumanDuration::from_millis(10),
        );
        let wrappers = &configuration.environment.python_wrappers;
        let is_path = |path: &String| {
            let sides = path.split_once(':');
            sides.is_some_and(|(module, name)| !module.is_empty() && !name.is_empty())
                && !path.contains(',')
        };
        if let Some(path) = wrappers.iter().find(|path| !is_path(path)) {
            self.unexpected(
                "environment.python_wrappers",
                "import paths, such as \"module:Wrapper\"",
                format!("{path:?}"),
            );
        }
    }

    fn security(&mut self, configuration: &Configuration) {
        let security = &configuration.security;
        for (set, path, missing, other) in [
            (
                &security.tls_certificate,
                "tls_certificate",
                &security.tls_key,
                "tls_key",
            ),
            (
                &security.tls_key,
                "tls_key",
                &security.tls_certificate,
                "tls_certificate",
            ),
            (
                &security.tls_client_ca,
                "tls_client_ca",
                &security.tls_certificate,
                "tls_certificate",
            ),
            (
                &security.tls_client_certificate,
                "tls_client_certificate",
                &security.tls_client_key,
                "tls_client_key",
            ),
            (
                &security.tls_client_key,
                "tls_client_key",
                &security.tls_client_certificate,
                "tls_client_certificate",
            ),
            (
                &security.tls_client_certificate,
                "tls_client_certificate",
                &security.tls_ca,
                "tls_ca",
            ),
        ] {
            if let (Some(file), None) = (set, missing) {
                self.impossible(
                    &[
                        (
                            &format!("security.{path}"),
                            &format!("{:?}", file.display()),
                        ),
                        (&format!("security.{other}"), &"\"none\""),
                    ],
                    format!("{path} has no use without {other}"),
                    "set both or neither",
                );
            }
        }
    }

    fn telemetry(&mut self, configuration: &Configuration) {
        let log = &configuration.telemetry.log;
        if let Err(error) = EnvFilter::try_new(log) {
            self.unexpected(
                "telemetry.log",
                format!("a level or directives such as \"info,rookery_learner=debug\" ({error})"),
                format!("{log:?}"),
            );
        }
    }

    fn logging(&mut self, configuration: &Configuration) {
        let logging = &configuration.logging;
        self.range("logging.points", logging.points, 1..=MAX_POINTS);
        self.range("logging.histograms", logging.histograms, 0..=MAX_POINTS);
        let experiment = &logging.mlflow.experiment;
        let is_name = !experiment.trim().is_empty()
            && experiment.len() <= MAX_EXPERIMENT_BYTES
            && !experiment.chars().any(char::is_control);
        if !is_name {
            self.unexpected(
                "logging.mlflow.experiment",
                format!("a name of one line and at most {MAX_EXPERIMENT_BYTES} bytes"),
                format!("{experiment:?}"),
            );
        }
    }
}

/// The keys that decide how many steps an update consumes.
fn update_extents<'a>(
    configuration: &'a Configuration,
    unrolls: &'a usize,
) -> [(&'static str, &'a dyn Display); 2] {
    let first: (&str, &dyn Display) = match configuration.schedule.kind {
        ScheduleKind::Synchronous => ("environment.num_envs", &configuration.environment.num_envs),
        ScheduleKind::Asynchronous => ("schedule.unrolls_per_update", unrolls),
    };
    [
        first,
        (
            "rollout.unroll_length",
            &configuration.rollout.unroll_length,
        ),
    ]
}

/// A key whose source the layers fill in.
fn key(path: &str, value: Option<String>) -> Key {
    Key {
        path: path.to_owned(),
        value,
        source: None,
    }
}

/// The numbers above `low` and up to `high`.
fn above(low: f64, high: f64) -> (Bound<f64>, Bound<f64>) {
    (Bound::Excluded(low), Bound::Included(high))
}

/// An optional value as it is written.
fn or_none<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "\"none\"".to_owned(), |value| value.to_string())
}

/// A range as a person would say it.
fn in_words<T: Display>(range: &impl RangeBounds<T>) -> String {
    let low = match range.start_bound() {
        Bound::Included(low) => format!("at least {low}"),
        Bound::Excluded(low) => format!("above {low}"),
        Bound::Unbounded => String::new(),
    };
    let high = match range.end_bound() {
        Bound::Included(high) => format!("at most {high}"),
        Bound::Excluded(high) => format!("below {high}"),
        Bound::Unbounded => String::new(),
    };
    let and = if low.is_empty() || high.is_empty() {
        ""
    } else {
        " and "
    };
    format!("{low}{and}{high}")
}
