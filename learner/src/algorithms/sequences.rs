//! What a recurrent policy's round is cut by: whole unrolls of whole environments, never single
//! steps, each from the recurrent state that its actor began it with.
//!
//! That state is of the parameters that have acted, and the same for all epochs of an update:
//! Kapturowski, Ostrovski, Quan, Munos and Dabney 2019, "Recurrent experience replay in distributed
//! reinforcement learning", call it the stored state. There it may be many updates old; here it is
//! as old as the round. The states within an unroll are computed anew by every gradient step.

use tch::{Device, Tensor};

use crate::algorithms::round::{Round, ShardColumns};
use crate::networks::{ActorCritic, Sequences};

/// The environments of a round as sequences of equal length.
#[derive(Debug)]
pub struct Lanes {
    envs: Vec<Lane>,
    /// Steps of each environment, `T`.
    length: usize,
    /// Whether a step ended its episode, `[R]` in the order of the round.
    ended: Vec<bool>,
    /// The environment of each step, `[R]`.
    env_of_step: Vec<i64>,
    /// `[N, S]`.
    initial_states: Tensor,
}

/// Where the steps and the observations of one environment lie.
#[derive(Clone, Copy, Debug)]
struct Lane {
    first_step: usize,
    first_row: usize,
    /// Distance to the next step or row.
    stride: usize,
}

impl Lanes {
    /// The environments of a checked round for a policy with states of `state_width` values.
    #[must_use]
    pub fn new(round: &Round, state_width: usize, device: Device) -> Self {
        let mut lanes = Vec::with_capacity(round.num_envs());
        let mut env_of_step = Vec::with_capacity(round.num_steps());
        let (mut first_step, mut first_row) = (0, 0);
        for shard in &round.shards {
            let first_env = lanes.len();
            lanes.extend((0..shard.num_envs).map(|env| Lane {
                first_step: first_step + env,
                first_row: first_row + env,
                stride: shard.num_envs,
            }));
            let envs = (0..shard.num_steps()).map(|step| first_env + step % shard.num_envs);
            env_of_step.extend(envs.map(|env| env as i64));
            first_step += shard.num_steps();
            first_row += shard.num_steps() + shard.num_envs;
        }
        let initial_states = Tensor::from_slice(&round.initial_states)
            .view([-1, state_width as i64])
            .to_device(device);
        Self {
            length: round.num_steps() / lanes.len(),
            ended: round.shards.iter().flat_map(ShardColumns::ended).collect(),
            envs: lanes,
            env_of_step,
            initial_states,
        }
    }

    /// Steps of each environment, `T`.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Number of environments, `N`.
    #[must_use]
    pub fn num_envs(&self) -> usize {
        self.envs.len()
    }

    /// The steps of `envs`, minibatch after minibatch of `minibatch_size` steps; time-major within each,
    /// so that each is a set of [`Sequences`].
    #[must_use]
    pub fn steps(&self, envs: &[i64], minibatch_size: usize) -> Vec<i64> {
        let mut steps = Vec::with_capacity(envs.len() * self.length);
        for envs in envs.chunks(minibatch_size / self.length) {
            for t in 0..self.length {
                let lanes = envs.iter().map(|&env| self.envs[env as usize]);
                steps.extend(lanes.map(|lane| (lane.first_step + t * lane.stride) as i64));
            }
        }
        steps
    }

    /// The sequences of one minibatch's steps.
    pub fn sequences(&self, steps: &[i64]) -> Sequences {
        let num_envs = steps.len() / self.length;
        let of_step = |step: &i64| self.env_of_step[*step as usize];
        let envs: Vec<i64> = steps[..num_envs].iter().map(of_step).collect();
        let envs = Tensor::from_slice(&envs).to_device(self.initial_states.device());
        let ended = steps[..steps.len() - num_envs].iter();
        let ended: Vec<bool> = ended.map(|&step| self.ended[step as usize]).collect();
        Sequences::new(self.initial_states.index_select(0, &envs), &ended)
    }

    /// Values of all encoded observations of the round, in their order: the timelines, whose last rows
    /// go on with the sequences, and the final observations, each from the state that its truncated
    /// step left.
    #[must_use]
    pub fn values(&self, network: &ActorCritic, round: &Round, inputs: &Tensor) -> Vec<f32> {
        let device = inputs.device();
        let (length, num_envs) = (self.length, self.envs.len());
        let rows: Vec<i64> = (0..=length)
            .flat_map(|t| self.envs.iter().map(move |lane| (t, lane)))
            .map(|(t, lane)| (lane.first_row + t * lane.stride) as i64)
            .collect();
        let timeline = inputs.index_select(0, &Tensor::from_slice(&rows).to_device(device));
        let all: Vec<i64> = (0..num_envs as i64).collect();
        let ended: Vec<bool> = self
            .steps(&all, num_envs * length)
            .into_iter()
            .map(|step| self.ended[step as usize])
            .collect();
        let sequences = Sequences::new(self.initial_states.shallow_clone(), &ended);

        // The row of the sequences at which each truncated step stands, in the order of the steps.
        let mut after = Vec::new();
        let mut first_env = 0;
        for shard in &round.shards {
            let (before, width) = (first_env, shard.num_envs);
            after.extend(shard.truncated_steps().map(|step| {
                let (t, env) = (step / width, before + step % width);
                (t * num_envs + env) as i64
            }));
            first_env += width;
        }
        let first_final = round.num_timeline_rows() as i64;
        let finals = inputs.narrow(0, first_final, after.len() as i64);
        let (values, final_values) =
            network.sequence_values(&timeline, &sequences, &finals, &after);

        let mut in_order = vec![0.0; rows.len()];
        for (row, value) in rows.into_iter().zip(values) {
            in_order[row as usize] = value;
        }
        in_order.extend(final_values);
        in_order
    }
}
