//! What `NumPy` makes of the seed of an episode.

const WORDS: usize = 4;
const XSHIFT: u32 = 16;

/// Steps a hash whose constant changes with each use.
struct Hash {
    constant: u32,
    factor: u32,
}

impl Hash {
    fn next(&mut self, value: u32) -> u32 {
        let value = value ^ self.constant;
        self.constant = self.constant.wrapping_mul(self.factor);
        let value = value.wrapping_mul(self.constant);
        value ^ (value >> XSHIFT)
    }
}

fn mix(x: u32, y: u32) -> u32 {
    let mixed = x
        .wrapping_mul(0xca01_f9dd)
        .wrapping_sub(y.wrapping_mul(0x4973_f715));
    mixed ^ (mixed >> XSHIFT)
}

/// The words with which `PCG64(seed)` begins: `numpy.random.SeedSequence(seed).generate_state(4, numpy.uint64)`.
///
/// # Source
/// O'Neill 2015, "Developing a `seed_seq` alternative", in the form that `NumPy` 1.17 gave it: a pool of four words of 32 bits, and
/// constants that depend on nothing but their place. The entropy is one word.
pub(super) fn seed_words(seed: u32) -> [u64; WORDS] {
    let mut hash = Hash {
        constant: 0x43b0_d7e5,
        factor: 0x931e_8875,
    };
    let mut pool = [seed, 0, 0, 0].map(|word| hash.next(word));
    for source in 0..pool.len() {
        for target in (0..pool.len()).filter(|target| *target != source) {
            pool[target] = mix(pool[target], hash.next(pool[source]));
        }
    }
    let mut hash = Hash {
        constant: 0x8b51_f9dd,
        factor: 0x58f3_8ded,
    };
    let mut halves = pool.iter().cycle().map(|word| u64::from(hash.next(*word)));
    std::array::from_fn(|_| {
        let mut half = || halves.next().unwrap_or_default();
        half() | (half() << 32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `NumPy` 2.4: `[hex(word) for word in SeedSequence(seed).generate_state(4, numpy.uint64)]`.
    #[test]
    fn words_are_those_of_numpy() {
        for (seed, words) in GOLDEN {
            assert_eq!(seed_words(seed), words, "seed {seed}");
        }
    }

    const GOLDEN: [(u32, [u64; WORDS]); 4] = [
        (
            0,
            [
                0xdb2c_d7e7_b0f4_78be,
                0xabf4_641a_2c71_ba49,
                0x20c6_ed6d_9d7b_8d41,
                0x2c40_99de_223c_39d4,
            ],
        ),
        (
            1,
            [
                0x672d_8ee5_6d67_91ff,
                0x8ae1_9ca1_4eb1_072c,
                0x4915_796d_1322_fc4a,
                0xd0cc_2bdc_aba0_49bd,
            ],
        ),
        (
            12_345,
            [
                0xb5ae_6482_a03d_837c,
                0xbbe2_996f_fa1f_7a2f,
                0x64e3_9a9f_3715_8f94,
                0x3ebb_0f96_a013_fd73,
            ],
        ),
        (
            2_147_483_647,
            [
                0x046b_33a7_72da_ecea,
                0xd951_128f_501f_dc04,
                0x1435_fc69_ac2f_b6ef,
                0xdeb6_da58_1f53_7928,
            ],
        ),
    ];
}
