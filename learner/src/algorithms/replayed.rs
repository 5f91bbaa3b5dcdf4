//! What off-policy algorithms share: the replay store, the limiter that says how often it is sampled, and
//! what is known of both.

use rookery_common::configuration::{Configuration, ReplayConfiguration};
use rookery_common::policy::Encoder;
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::EnvironmentSpec;
use rookery_common::unroll::Unroll;
use serde::Serialize;
use tch::{Device, Tensor};

use super::{AlgorithmError, AlgorithmState};
use crate::experience::replay::{
    RateLimiter, ReplayBatch, ReplayOptions, ReplaySnapshot, ReplayStore, SampleRatio,
    machine_memory,
};
use crate::logs::Distributions;
use crate::networks::encode;
use crate::run::RunSpecification;
use crate::tensors::to_host;

/// What a checkpoint holds of a store: its snapshot, or the bytes that one was written as.
#[derive(Clone, Debug)]
pub enum ReplayContents {
    /// The store as it was, to be written.
    Snapshot(Box<ReplaySnapshot>),
    /// What was written, to be restored.
    Bytes(Vec<u8>),
}

impl ReplayContents {
    /// The bytes of a checkpoint's file.
    ///
    /// # Errors
    /// None but a lack of memory, which is the end anyway.
    pub fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::Snapshot(snapshot) => {
                let mut bytes = Vec::with_capacity(snapshot.num_bytes() as usize + 4096);
                snapshot.write_to(&mut bytes)?;
                Ok(bytes)
            }
        }
    }
}

/// Contents are equal where their bytes are.
impl PartialEq for ReplayContents {
    fn eq(&self, other: &Self) -> bool {
        match (self.to_bytes(), other.to_bytes()) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            _ => false,
        }
    }
}

/// A sampled batch of `N` transitions on the device.
pub(crate) struct Columns {
    /// Encoded observations, `[N, inputs]`.
    pub(crate) inputs: Tensor,
    /// Encoded observations that follow, `[N, inputs]`.
    pub(crate) next_inputs: Tensor,
    /// Actions, `[N, A]`, until an algorithm makes of them what its networks take.
    pub(crate) actions: Tensor,
    /// n-step returns, `[N]`.
    pub(crate) returns: Tensor,
    /// What the value of the next observation counts, `[N]`.
    pub(crate) discounts: Tensor,
    /// Importance weights, `[N]`.
    pub(crate) weights: Tensor,
}

/// What one update is worth noting of the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReplayStatistics {
    /// Items that can be sampled.
    pub replay_size: u64,
    /// Items sampled so far for each one inserted.
    pub samples_per_insert: f64,
    /// Mean age of the items of the last batch, in steps of their environment.
    pub replay_age: Option<f64>,
    /// Mean importance weight of the last batch.
    pub importance_weight: Option<f64>,
}

/// A replay store with its limiter, the batch that was sampled last and what it is drawn with.
#[derive(Debug)]
pub struct Replayed {
    store: ReplayStore,
    limiter: RateLimiter,
    config: ReplayConfiguration,
    options: ReplayOptions,
    seed: u64,
    minibatch_size: usize,
    batch: ReplayBatch,
    /// How surprising each item of the batch was, once it was learnt from, `[N]`.
    surprise: Option<Tensor>,
    items_per_round: u64,
}

const INSERTED: &str = "replay.inserted";
const SAMPLED: &str = "replay.sampled";

impl Replayed {
    /// An empty store, as the run's configuration asks for it.
    ///
    /// # Errors
    /// [`AlgorithmError`] where the options do not go together or the store would not fit into the
    /// machine's memory.
    pub fn new(
        configuration: &Configuration,
        specification: &RunSpecification,
        discount: f64,
        minibatch_size: usize,
    ) -> Result<Self, AlgorithmError> {
        let shape = specification.contract.shape;
        let num_envs = configuration.environment.num_envs;
        let EnvironmentSpec { goal, .. } = &specification.environment;
        let config = configuration.replay.clone();
        let options = ReplayOptions::new(
            &config,
            shape,
            num_envs / shape.envs_per_shard,
            discount,
            goal.as_ref(),
        )?;
        if let Some(available) = machine_memory() {
            options.check_memory(available)?;
        }
        let items_per_round = configuration.rows_per_round() as u64;
        let limiter = RateLimiter::new(
            config.minimum_size,
            SampleRatio::configured(&config),
            items_per_round,
            minibatch_size as u64,
        )?;
        Ok(Self {
            store: ReplayStore::new(options.clone())?,
            limiter,
            config,
            options,
            seed: configuration.run.seed,
            minibatch_size,
            batch: ReplayBatch::default(),
            surprise: None,
            items_per_round,
        })
    }

    /// Stores one round.
    ///
    /// # Errors
    /// [`AlgorithmError::Replay`] where it does not fit; nothing changes.
    pub fn insert(&mut self, unrolls: &[Unroll]) -> Result<(), AlgorithmError> {
        let inserted = self.store.insert(unrolls)?;
        self.limiter.record_insert(inserted.steps);
        Ok(())
    }

    /// Samples the batch for gradient step `step` of `update`. Returns whether there is one: none before
    /// the minimum size is reached or where enough has been sampled, and none beyond `wanted` steps
    /// unless the next round could not be inserted otherwise.
    ///
    /// # Errors
    /// [`AlgorithmError::Replay`].
    pub fn sample(
        &mut self,
        update: u64,
        step: u64,
        wanted: u64,
        progress: f64,
    ) -> Result<bool, AlgorithmError> {
        let size = self.minibatch_size as u64;
        let is_wanted = step < wanted || !self.limiter.can_insert(self.items_per_round);
        if !is_wanted || !self.limiter.can_sample(size) || self.store.num_items() == 0 {
            return Ok(false);
        }
        let mut random = Random::derive(self.seed, Purpose::Replay, update, step);
        let beta = self.config.beta(progress);
        self.store
            .sample(self.minibatch_size, beta, &mut random, &mut self.batch)?;
        self.limiter.record_sample(size);
        Ok(true)
    }

    /// Items that must be there before the first is sampled.
    #[must_use]
    pub fn minimum_size(&self) -> u64 {
        self.config.minimum_size
    }

    /// Brings what was sampled last to the device.
    ///
    /// # Errors
    /// [`AlgorithmError::Network`] where observations do not suit the encoder.
    pub(crate) fn columns(
        &self,
        encoder: &Encoder,
        device: Device,
    ) -> Result<Columns, AlgorithmError> {
        let column = |host: &[f32]| Tensor::from_slice(host).to_device(device);
        let batch = &self.batch;
        Ok(Columns {
            inputs: encode(encoder, &batch.observations, device)?,
            next_inputs: encode(encoder, &batch.next_observations, device)?,
            actions: column(&batch.actions).view([batch.len() as i64, -1]),
            returns: column(&batch.returns),
            discounts: column(&batch.discounts),
            weights: column(&batch.weights),
        })
    }

    /// Says how surprising each item of the last batch was, `[N]`: its priority, where there are any.
    pub fn learnt(&mut self, surprise: Tensor) {
        if self.config.prioritised {
            self.store
                .update_priorities(&self.batch.handles, &to_host(&surprise));
        }
        self.surprise = Some(surprise);
    }

    /// Notes how returns and temporal-difference errors of the last batch are distributed, where one was
    /// learnt from since this was asked last.
    pub fn describe(&mut self, distributions: &mut Distributions) {
        let surprise = self.surprise.take();
        if let Some(surprise) = surprise.filter(|_| distributions.are_wanted()) {
            distributions.note("returns", &self.batch.returns);
            distributions.note("td_errors", &to_host(&surprise));
        }
    }

    /// What is worth noting now.
    #[must_use]
    pub fn statistics(&self) -> ReplayStatistics {
        let mean = |sum: f64| (!self.batch.is_empty()).then(|| sum / self.batch.len() as f64);
        let ages = self.batch.handles.iter().map(|item| self.store.age(*item));
        ReplayStatistics {
            replay_size: self.store.num_items(),
            samples_per_insert: self.limiter.sampled() as f64
                / self.limiter.inserted().max(1) as f64,
            replay_age: mean(ages.map(|age| age as f64).sum()),
            importance_weight: mean(self.batch.weights.iter().copied().map(f64::from).sum()),
        }
    }

    /// Adds store and counters to a state; the contents only where they are configured to be kept.
    #[must_use]
    pub fn save(&self, mut state: AlgorithmState) -> AlgorithmState {
        state.counters.extend([
            (INSERTED.to_owned(), self.limiter.inserted()),
            (SAMPLED.to_owned(), self.limiter.sampled()),
        ]);
        state.replay = self
            .config
            .in_checkpoint
            .then(|| ReplayContents::Snapshot(Box::new(self.store.snapshot())));
        state
    }

    /// Continues from a state. Without contents the store is empty, and fills to its minimum size anew
    /// while the ratio goes on as it was (T31).
    ///
    /// # Errors
    /// [`AlgorithmError`] where the contents are another store's; nothing changes.
    pub fn restore(&mut self, state: &AlgorithmState) -> Result<(), AlgorithmError> {
        let (inserted, sampled) = (state.counter(INSERTED)?, state.counter(SAMPLED)?);
        let store = match &state.replay {
            Some(contents) => {
                let bytes = contents.to_bytes()?;
                Some(ReplayStore::restore(
                    self.options.clone(),
                    &mut bytes.as_slice(),
                )?)
            }
            None => None,
        };
        self.limiter.restore(inserted, sampled);
        match store {
            Some(store) => self.store = store,
            None => self.limiter.restart_empty(),
        }
        Ok(())
    }
}
