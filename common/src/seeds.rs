//! Counter-based randomness: every stream is derived from what it is *for*, never carried over
//! from what ran before it, so that no thread's timing can change a run.
//!
//! A [`Random`] is addressed by `(run seed, purpose, index, position)`: an environment's reset
//! draws from `(seed, Reset, environment, episode)`, an action from
//! `(seed, Action, environment, step)`, a minibatch order from `(seed, Minibatch, version, epoch)`.

use std::convert::Infallible;

use rand_core::TryRng;
use serde::{Deserialize, Serialize};

/// What a random stream is for; streams of different purposes never overlap in practice.
///
/// The numbers are part of the reproducibility of a run: never renumber, only append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Purpose {
    /// The initial state and the dynamics of one episode: `(environment, episode)`.
    Episode = 1,
    /// The choice of one action: `(environment, step)`.
    Action = 2,
    /// The initial parameters: `(tensor, 0)`.
    Initialisation = 3,
    /// The order of rows in one epoch: `(version, epoch)`.
    Minibatch = 4,
    /// The initial state and the dynamics of an evaluation episode: `(environment, episode)`.
    Evaluation = 5,
    /// The noise of a noisy network's layers while acting: `(shard, unroll)`.
    Noise = 6,
    /// What a gradient step samples from the replay store: `(update, gradient step)`.
    Replay = 7,
    /// Noise in the learner, of layers or of actions that it draws: `(update, draw)`.
    LearnerNoise = 8,
}

/// Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators": the golden-ratio
/// increment of `SplitMix64`.
const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// What sets branches apart from the streams that they branch from: the fractional part of the
/// square root of two.
const BRANCH: u64 = 0x6A09_E667_F3BC_C908;

/// The finaliser of `SplitMix64` (variant 13 of Stafford's mixers): a bijection of 64-bit words
/// with full avalanche.
#[inline]
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// One random stream: `SplitMix64` read as a counter-based generator, whose `n`-th output is a
/// function of the key and `n` alone. Its whole state is two words, so an environment's snapshot
/// can hold it.
///
/// It implements [`rand_core::Rng`], so every distribution of the `rand` family works on it; the
/// draws that training depends on are the methods here, whose values never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Random {
    key: u64,
    counter: u64,
}

impl Random {
    /// Derives the stream for `purpose` at `(index, position)` in the run with this `seed`.
    #[inline]
    #[must_use]
    pub const fn derive(seed: u64, purpose: Purpose, index: u64, position: u64) -> Self {
        // Each word is absorbed through a full mix, so that neighbouring addresses share nothing.
        let mut key = mix(seed.wrapping_add(GOLDEN_GAMMA));
        key = mix(key ^ (purpose as u64).wrapping_mul(GOLDEN_GAMMA));
        key = mix(key.wrapping_add(index).wrapping_mul(GOLDEN_GAMMA));
        key = mix(key.wrapping_add(position).wrapping_add(GOLDEN_GAMMA));
        Self { key, counter: 0 }
    }

    /// Derives the stream number `label` of what belongs to this one's address. It is the same
    /// however much has been drawn, and drawing from it changes nothing here.
    #[must_use]
    pub const fn branch(&self, label: u64) -> Self {
        let mut key = mix(self.key.wrapping_add(BRANCH));
        key = mix(key.wrapping_add(label).wrapping_mul(GOLDEN_GAMMA));
        Self { key, counter: 0 }
    }

    /// Draws the next 64 random bits.
    #[inline]
    pub const fn next_bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        mix(self
            .key
            .wrapping_add(self.counter.wrapping_mul(GOLDEN_GAMMA)))
    }

    /// Draws uniformly from `[0, 1)` with 53 random bits.
    #[inline]
    pub fn unit_f64(&mut self) -> f64 {
        (self.next_bits() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Draws uniformly from `[0, 1)` with 24 random bits.
    #[inline]
    pub fn unit_f32(&mut self) -> f32 {
        (self.next_bits() >> 40) as f32 * (1.0 / (1_u32 << 24) as f32)
    }

    /// Draws uniformly from `[low, high)`.
    #[inline]
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit_f64()
    }

    /// Draws uniformly from `0..bound` (Lemire 2019's multiply-shift; the bias is below
    /// `bound / 2^64`).
    ///
    /// # Panics
    /// If `bound` is zero.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "cannot draw from an empty range");
        ((u128::from(self.next_bits()) * u128::from(bound)) >> 64) as u64
    }

    /// Draws two independent standard normals (Box and Muller 1958).
    ///
    /// The logarithm and the angle come from pure-Rust code, so that the values are the same
    /// whatever C library the program runs on.
    #[inline]
    pub fn standard_normals(&mut self) -> (f64, f64) {
        // 1 - u lies in (0, 1], whose logarithm is finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit_f64()));
        let (sine, cosine) = libm::sincos(std::f64::consts::TAU * self.unit_f64());
        (radius * cosine, radius * sine)
    }

    /// Shuffles `items` in place (Fisher and Yates; Durstenfeld 1964).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let chosen = self.below(last as u64 + 1) as usize;
            items.swap(last, chosen);
        }
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.next_bits() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next_bits())
    }

    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), Infallible> {
        for chunk in destination.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_bits().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_function_of_its_address() {
        let draw = |seed, purpose, index, position| {
            Random::derive(seed, purpose, index, position).next_bits()
        };
        let reference = draw(1, Purpose::Action, 2, 3);
        assert_eq!(reference, draw(1, Purpose::Action, 2, 3));
        for other in [
            draw(2, Purpose::Action, 2, 3),
            draw(1, Purpose::Episode, 2, 3),
            draw(1, Purpose::Action, 3, 3),
            draw(1, Purpose::Action, 2, 4),
            draw(1, Purpose::Action, 3, 2),
        ] {
            assert_ne!(reference, other);
        }
    }

    #[test]
    fn neighbouring_streams_are_uniform_and_uncorrelated() {
        // First draws of 64 x 1,024 neighbouring addresses, as the actors use them.
        let mut sum = 0.0;
        let mut lagged = 0.0;
        let mut previous = 0.0;
        let count = 64 * 1024;
        for index in 0..64 {
            for position in 0..1024 {
                let value = Random::derive(7, Purpose::Action, index, position).unit_f64() - 0.5;
                sum += value;
                lagged += value * previous;
                previous = value;
            }
        }
        let count = f64::from(count);
        // Standard errors: sqrt(1/12/n) = 0.0011 and 1/12/sqrt(n) = 0.0003.
        assert!((sum / count).abs() < 0.005, "{}", sum / count);
        assert!((lagged / count).abs() < 0.0015, "{}", lagged / count);
    }

    #[test]
    fn a_branch_is_a_stream_of_its_own() {
        let mut trunk = Random::derive(1, Purpose::Episode, 2, 3);
        let before = [trunk.branch(0), trunk.branch(1)];
        let drawn: Vec<u64> = (0..4).map(|_| trunk.next_bits()).collect();
        assert_eq!([trunk.branch(0), trunk.branch(1)], before);
        let first = |mut stream: Random| stream.next_bits();
        let neighbour = Random::derive(1, Purpose::Episode, 2, 4).branch(0);
        let branches = [
            first(before[0].clone()),
            first(before[1].clone()),
            first(before[0].branch(0)),
            first(neighbour),
        ];
        for (index, draw) in branches.iter().enumerate() {
            assert!(!drawn.contains(draw));
            assert!(!branches[..index].contains(draw));
        }
        assert_eq!(drawn[0], first(Random::derive(1, Purpose::Episode, 2, 3)));
    }

    #[test]
    fn normals_have_the_moments_of_a_normal() {
        let mut random = Random::derive(3, Purpose::Action, 0, 0);
        let (mut first, mut second, mut fourth) = (0.0, 0.0, 0.0);
        let pairs = 50_000;
        for _ in 0..pairs {
            let (a, b) = random.standard_normals();
            for z in [a, b] {
                first += z;
                second += z * z;
                fourth += z * z * z * z;
            }
        }
        let count = f64::from(2 * pairs);
        assert!((first / count).abs() < 0.015);
        assert!((second / count - 1.0).abs() < 0.02);
        assert!((fourth / count - 3.0).abs() < 0.12);
    }

    #[test]
    fn a_shuffle_is_a_permutation_and_moves_things() {
        let mut items: Vec<u32> = (0..1000).collect();
        Random::derive(5, Purpose::Minibatch, 0, 0).shuffle(&mut items);
        let moved = items
            .iter()
            .enumerate()
            .filter(|(i, v)| *i as u32 != **v)
            .count();
        assert!(moved > 950);
        items.sort_unstable();
        assert!(items.iter().enumerate().all(|(i, v)| i as u32 == *v));
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut random = Random::derive(5, Purpose::Minibatch, 0, 1);
        let mut seen = [0_u32; 7];
        for _ in 0..7000 {
            seen[random.below(7) as usize] += 1;
        }
        assert!(
            seen.iter().all(|&count| (800..1200).contains(&count)),
            "{seen:?}"
        );
    }
}
