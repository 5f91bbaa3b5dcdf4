//! Configurations of runs that are over in a second or two.

use std::fmt;
use std::path::Path;

use toml::{Table, Value};

/// The configuration of a small run.
#[derive(Clone, Debug)]
pub struct Setup {
    table: Table,
}

impl Setup {
    /// Unrolls in a round of either setup: one of each shard.
    pub const SHARDS: u64 = 4;
    /// Rounds of a setup, unless [`of_rounds`](Self::of_rounds) says otherwise.
    pub const ROUNDS: u64 = 60;
    /// Rounds for algorithms of which one takes a millisecond: a run of the usual number could end between
    /// two looks at it, before all that a test has planned for it.
    pub const MANY_ROUNDS: u64 = 10 * Self::ROUNDS;
    /// Environment steps in a round of either setup.
    pub const ROUND_STEPS: u64 = 8 * 32;

    /// `CartPole-v1`, discrete, with observations and rewards normalised: what training depends on
    /// beside parameters is there too.
    pub fn cart_pole() -> Self {
        Self::small("CartPole-v1")
            .set("normalisation.observations", true)
            .set("normalisation.rewards", true)
    }

    /// `Pendulum-v1`, continuous, whose episodes all end by truncation.
    pub fn pendulum() -> Self {
        Self::small("Pendulum-v1")
    }

    /// `CartPole-v1` with V-trace actor-critic; what training depends on beside parameters is there too.
    pub fn impala() -> Self {
        Self::cart_pole()
            .set("run.algorithm", "impala")
            .set("impala.learning_rate", 3e-3)
    }

    /// PPO on advantages of V-trace.
    pub fn ppo_vtrace() -> Self {
        Self::cart_pole().set("ppo.advantage", "vtrace")
    }

    /// `CartPole-v1` with double Q-learning out of a prioritised store that overwrites itself.
    pub fn dqn() -> Self {
        Self::small("CartPole-v1")
            .set("run.algorithm", "dqn")
            .set("dqn.gradient_steps", 4)
            .set("dqn.epsilon_decay", 5_000)
            .replay()
            .set("replay.prioritised", true)
            .set("replay.n_step", 3)
    }

    /// All that Rainbow adds to it: dueling, noisy, distributional.
    pub fn rainbow() -> Self {
        Self::dqn()
            .set("dqn.dueling", true)
            .set("dqn.noisy", true)
            .set("dqn.distribution", "categorical")
            .set("dqn.num_atoms", 11)
    }

    /// `Catch-v0` with double Q-learning behind convolutions, residual ones among them.
    pub fn image() -> Self {
        Self::small("Catch-v0")
            .set("run.algorithm", "dqn")
            .set("policy.encoder", "impala_cnn")
            .set("dqn.gradient_steps", 2)
            .set("dqn.minibatch_size", 16)
            .set("dqn.epsilon_decay", 5_000)
            .replay()
    }

    /// `Pendulum-v1` with soft actor-critic.
    pub fn sac() -> Self {
        Self::small("Pendulum-v1")
            .set("run.algorithm", "sac")
            .set("sac.minibatch_size", 64)
            .set("sac.gradient_steps", 4)
            .replay()
    }

    /// `Pendulum-v1` with TD3.
    pub fn td3() -> Self {
        Self::small("Pendulum-v1")
            .set("run.algorithm", "td3")
            .set("td3.minibatch_size", 64)
            .set("td3.gradient_steps", 5)
            .replay()
    }

    /// With an asynchronous schedule: updates of the same size, and room for up to 8 shards.
    #[must_use]
    pub fn asynchronous(self) -> Self {
        self.set("schedule.kind", "asynchronous")
            .set("schedule.unrolls_per_update", Self::SHARDS as i64)
            .set("environment.num_envs", 16)
    }

    /// Gymnasium's CartPole in host processes, whose state is its seed and its actions.
    ///
    /// # Panics
    /// Where `ROOKERY_TEST_PYTHON` names no interpreter with Gymnasium; `make test` does.
    pub fn hosted() -> Self {
        let python = std::env::var("ROOKERY_TEST_PYTHON")
            .expect("ROOKERY_TEST_PYTHON names an interpreter with Gymnasium, as in `make test`");
        Self::small("gymnasium:CartPole-v1")
            .set("environment.arguments.vectorization_mode", "sync")
            .set("normalisation.observations", true)
            .set("actor.host.python", python)
    }

    /// `CartPole-v1` with advantage actor-critic.
    pub fn a2c() -> Self {
        Self::small("CartPole-v1").set("run.algorithm", "a2c")
    }

    /// `CartPole-v1` with REINFORCE, whose episodes stretch over rounds.
    pub fn reinforce() -> Self {
        Self::small("CartPole-v1")
            .set("run.algorithm", "reinforce")
            .set("normalisation.observations", true)
            .set("normalisation.rewards", true)
    }

    /// `FrozenLake-v1` with SARSA over a table, whose steps wait for the next round's actions.
    pub fn sarsa() -> Self {
        Self::small("FrozenLake-v1")
            .set("run.algorithm", "sarsa")
            .set("policy.hidden", Vec::<Value>::new())
            .set("tabular.learning_rate_schedule", "linear")
            .set("tabular.epsilon_decay", 5_000)
    }

    /// The same with Q-learning.
    pub fn q_learning() -> Self {
        Self::sarsa().set("run.algorithm", "q_learning")
    }

    /// `CartPoleNoVelocity-v1` with an LSTM, and observations normalised: what the state is computed
    /// from is part of a version too.
    pub fn lstm() -> Self {
        Self::small("CartPoleNoVelocity-v1")
            .set("normalisation.observations", true)
            .recurrent("lstm")
    }

    /// `Pendulum-v1` with a GRU.
    pub fn gru() -> Self {
        Self::small("Pendulum-v1").recurrent("gru")
    }

    fn recurrent(self, cell: &str) -> Self {
        self.set("policy.recurrent", cell)
            .set("policy.recurrent_units", 16)
            .set("policy.shared_trunk", true)
    }

    fn replay(self) -> Self {
        self.set("replay.capacity", 4_000)
            .set("replay.minimum_size", 500)
    }

    fn small(environment: &str) -> Self {
        let none = "none";
        Self {
            table: Table::new(),
        }
        .set("run.seed", 7)
        .set(
            "run.total_env_steps",
            (Self::ROUNDS * Self::ROUND_STEPS) as i64,
        )
        .set("environment.id", environment)
        .set("environment.num_envs", 8)
        .set("rollout.envs_per_shard", 2)
        .set("rollout.unroll_length", 32)
        .set("policy.hidden", vec![Value::from(16), Value::from(16)])
        .set("ppo.epochs", 2)
        .set("ppo.minibatch_size", 64)
        .set("ppo.learning_rate", 3e-3)
        .set("checkpoint.every", none)
        .set("learner.device", "cpu")
        .set("actor.reconnect_backoff_initial", "10ms")
        .set("actor.reconnect_backoff_max", "200ms")
    }

    /// With `rounds` instead of [`ROUNDS`](Self::ROUNDS).
    #[must_use]
    pub fn of_rounds(self, rounds: u64) -> Self {
        self.set("run.total_env_steps", (rounds * Self::ROUND_STEPS) as i64)
    }

    /// How many rounds the run has.
    pub fn rounds(&self) -> u64 {
        let steps = self.table["run"]["total_env_steps"].as_integer();
        steps.expect("a number of steps") as u64 / Self::ROUND_STEPS
    }

    /// With `value` for the dotted `key`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let mut table = &mut self.table;
        let (sections, name) = key.rsplit_once('.').expect("a key within a section");
        for section in sections.split('.') {
            table = table
                .entry(section)
                .or_insert_with(|| Value::Table(Table::new()))
                .as_table_mut()
                .expect("a section");
        }
        table.insert(name.to_owned(), value.into());
        self
    }

    /// With the path `value` for the dotted `key`.
    #[must_use]
    pub fn set_path(self, key: &str, value: &Path) -> Self {
        self.set(key, value.to_str().expect("a path in UTF-8"))
    }
}

impl fmt::Display for Setup {
    /// Writes it as TOML.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(formatter)
    }
}
