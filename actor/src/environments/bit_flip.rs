//! `BitFlip-v0`: turn one row of bits into another by flipping one bit a step. Action `i` flips bit
//! `i`.
//!
//! The observation is `[state bits, goal bits]`, each bit 0 or 1. The state is at once the achieved
//! goal, so it stands there once. A step after which all bits agree gives 0 and ends the episode,
//! every other one gives -1; the time limit is the number of bits. With the default of 15 bits a
//! random policy almost never sees a reward other than -1: this is the task for which hindsight was
//! invented. A start that is the goal already takes a flip away and one back.
//!
//! # Source
//! Andrychowicz, Wolski, Ray, Schneider, Fong, Welinder, McGrew, Tobin, Abbeel and Zaremba 2017,
//! "Hindsight experience replay", section 3.1. It has no counterpart in Gymnasium.

use rookery_common::seeds::Random;
use rookery_common::spaces::{GoalSpec, Space};

use super::arguments::Arguments;
use super::batch::{Batch, Rules, Step};
use super::{BatchedEnvironment, EnvironmentError};

const DEFAULT_BITS: u32 = 15;
/// A state and its goal are one word each.
const MAX_BITS: u32 = u64::BITS;

pub(super) fn make(
    mut arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let bits = arguments.whole_number("bits", DEFAULT_BITS, 1..=MAX_BITS)?;
    let width = bits as usize;
    let mut spec = arguments.into_spec(
        Space::bounded(&vec![0.0; 2 * width], &vec![1.0; 2 * width]),
        Space::Discrete { n: width },
        bits,
    )?;
    spec.goal = Some(GoalSpec {
        achieved: 0..width,
        desired: width..2 * width,
        // Any two rows that differ are at least 1 apart.
        tolerance: 0.0,
        terminates: true,
    });
    Ok(Box::new(Batch::with_rules(
        spec,
        BitFlip { width },
        num_envs,
    )))
}

/// The rules; the state is the bits and the goal, the first bit lowest.
#[derive(Debug)]
struct BitFlip {
    /// Number of bits.
    width: usize,
}

impl BitFlip {
    /// The bits that are in use.
    const fn mask(&self) -> u64 {
        u64::MAX >> (u64::BITS as usize - self.width)
    }
}

impl Rules for BitFlip {
    type State = [u64; 2];

    #[inline]
    fn observation_width(&self) -> usize {
        2 * self.width
    }

    #[inline]
    fn action_width(&self) -> usize {
        1
    }

    fn begin(&self, mut random: Random) -> Self::State {
        [random.next_bits(), random.next_bits()].map(|bits| bits & self.mask())
    }

    #[inline]
    fn advance(&self, state: &mut Self::State, action: &[f32]) -> Step {
        // Outside the action space nothing flips.
        let flipped = 1_u64.checked_shl(action[0] as u32).unwrap_or(0) & self.mask();
        state[0] ^= flipped;
        let is_reached = state[0] == state[1];
        Step::new(if is_reached { 0.0 } else { -1.0 }, is_reached)
    }

    #[inline]
    fn observe(&self, state: &Self::State, row: &mut [f32]) {
        for (bits, part) in state.iter().zip(row.chunks_exact_mut(self.width)) {
            for (index, value) in part.iter_mut().enumerate() {
                *value = f32::from((bits >> index & 1) as u8);
            }
        }
    }

    fn is_possible(&self, state: &Self::State) -> bool {
        state.iter().all(|bits| bits & !self.mask() == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rookery_common::seeds::Purpose;

    use super::*;
    use crate::environments::{StepOutput, make};

    #[test]
    fn the_reward_is_what_the_goal_spec_says() {
        let mut batch = make("BitFlip-v0", &BTreeMap::new(), 1).unwrap();
        let goal = batch.spec().goal.clone().unwrap();
        let mut observation = vec![0.0; 30];
        batch
            .reset(
                0,
                Random::derive(1, Purpose::Episode, 0, 0),
                &mut observation,
            )
            .unwrap();
        let (mut reward, mut terminated) = ([0.0], [0]);
        // Flipping every bit that differs reaches the goal with the last flip and not before.
        let wrong: Vec<usize> = (0..15)
            .filter(|&bit| observation[bit] != observation[15 + bit])
            .collect();
        assert!(wrong.len() > 2, "{wrong:?}");
        for (flips, &bit) in wrong.iter().enumerate() {
            batch
                .step(
                    &[bit as f32],
                    StepOutput {
                        observations: &mut observation,
                        rewards: &mut reward,
                        terminated: &mut terminated,
                        truncated: &mut [0],
                    },
                )
                .unwrap();
            let (achieved, desired) = observation.split_at(15);
            assert_eq!(reward[0], goal.reward(achieved, desired));
            assert_eq!(terminated[0] == 1, flips + 1 == wrong.len());
            assert_eq!(terminated[0] == 1, goal.is_reached(achieved, desired));
        }
    }

    #[test]
    fn states_with_bits_that_are_not_there_cannot_be_restored() {
        let rules = BitFlip { width: 3 };
        assert!(rules.is_possible(&[0b111, 0b000]));
        assert!(!rules.is_possible(&[0b1000, 0]));
        assert_eq!(BitFlip { width: 64 }.mask(), u64::MAX);
    }
}
