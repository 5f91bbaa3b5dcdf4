//! Run state as bytes: what one process saves and another restores, such as an environment's
//! state after an unroll.
//!
//! A snapshot is one version byte and then the value in bincode's standard little-endian encoding:
//! integers and lengths take as few bytes as they need, floats keep their bits. Snapshots can
//! follow each other in one buffer, because [`decode`] hands back what it did not read.

use bincode::error::DecodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The memory that decoding one snapshot may claim. 4,096 environments of 1 KiB each fit 16 times.
const MAX_DECODED_BYTES: usize = 64 << 20;

/// Why bytes are not the snapshot that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// There are no bytes at all, not even a version.
    #[error("the snapshot is empty")]
    Empty,
    /// Another format wrote the bytes.
    #[error(
        "the snapshot has format version {got}, this program reads version {expected}; use the \
         program that wrote it"
    )]
    Version {
        /// The version that the caller reads.
        expected: u8,
        /// The version that the bytes begin with.
        got: u8,
    },
    /// The bytes end inside the value.
    #[error("the snapshot is cut off: at least {missing_bytes} bytes are missing")]
    Truncated {
        /// How many more bytes the field at the end needs.
        missing_bytes: usize,
    },
    /// The bytes claim more memory than any state takes.
    #[error("the snapshot claims more than {limit_bytes} bytes of memory; it is damaged")]
    TooLarge {
        /// The largest accepted size.
        limit_bytes: usize,
    },
    /// The bytes do not spell a value of the expected type.
    #[error("the snapshot is damaged: {reason}")]
    Malformed {
        /// What the decoder stumbled over.
        reason: String,
    },
    /// Bytes are left where the snapshot should have ended.
    #[error("the snapshot is followed by {extra_bytes} bytes that do not belong to it")]
    TrailingBytes {
        /// How many bytes are left.
        extra_bytes: usize,
    },
}

/// Appends the snapshot of `value` in format `version` to `bytes`.
///
/// # Panics
/// If the `Serialize` implementation of `T` fails or gives a sequence without its length; derived
/// implementations over vectors, arrays and numbers do neither.
pub fn encode<T: Serialize>(version: u8, value: &T, bytes: &mut Vec<u8>) {
    bytes.push(version);
    #[expect(
        clippy::expect_used,
        reason = "a vector takes every write, and derived implementations give every length"
    )]
    bincode::serde::encode_into_std_write(value, bytes, bincode::config::standard())
        .expect("a value with known lengths can always be written to memory");
}

/// Reads the snapshot of format `version` at the start of `bytes`, and hands back the bytes after it.
///
/// # Errors
/// Where the version differs, the bytes end early, claim too much memory or are not a `T`.
pub fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<(T, &[u8]), SnapshotError> {
    let (&got, body) = bytes.split_first().ok_or(SnapshotError::Empty)?;
    if got != version {
        return Err(SnapshotError::Version {
            expected: version,
            got,
        });
    }
    let config = bincode::config::standard().with_limit::<MAX_DECODED_BYTES>();
    match bincode::serde::decode_from_slice(body, config) {
        Ok((value, read)) => Ok((value, &body[read..])),
        Err(DecodeError::UnexpectedEnd { additional }) => Err(SnapshotError::Truncated {
            missing_bytes: additional,
        }),
        Err(DecodeError::LimitExceeded) => Err(SnapshotError::TooLarge {
            limit_bytes: MAX_DECODED_BYTES,
        }),
        Err(error) => Err(SnapshotError::Malformed {
            reason: error.to_string(),
        }),
    }
}

/// Reads the snapshot of format `version` that `bytes` hold from the first to the last.
///
/// # Errors
/// As [`decode`], and where bytes are left over.
pub fn decode_all<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, SnapshotError> {
    match decode(version, bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(SnapshotError::TrailingBytes {
            extra_bytes: rest.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_with_their_bits_and_the_rest_is_handed_on() {
        let value = (7_u32, vec![-0.0_f64, f64::MIN_POSITIVE, 1.0 / 3.0]);
        let mut bytes = Vec::new();
        encode(3, &value, &mut bytes);
        encode(4, &true, &mut bytes);
        let (first, rest) = decode::<(u32, Vec<f64>)>(3, &bytes).unwrap();
        assert_eq!(first.0, 7);
        assert!(
            first
                .1
                .iter()
                .zip(&value.1)
                .all(|(a, b)| a.to_bits() == b.to_bits())
        );
        assert!(decode_all::<bool>(4, rest).unwrap());
        assert_eq!(
            decode_all::<(u32, Vec<f64>)>(3, &bytes),
            Err(SnapshotError::TrailingBytes { extra_bytes: 2 })
        );
    }

    #[test]
    fn every_cut_and_a_wrong_version_are_errors() {
        let mut bytes = Vec::new();
        encode(1, &vec![1.0_f64; 5], &mut bytes);
        for length in 0..bytes.len() {
            assert!(decode::<Vec<f64>>(1, &bytes[..length]).is_err());
        }
        assert_eq!(
            decode::<Vec<f64>>(2, &bytes),
            Err(SnapshotError::Version {
                expected: 2,
                got: 1
            })
        );
    }

    #[test]
    fn a_length_that_lies_claims_no_memory() {
        // Version, then the length 2^60 as bincode writes it: marker 253 and eight bytes.
        let mut bytes = vec![1, 253];
        bytes.extend_from_slice(&(1_u64 << 60).to_le_bytes());
        assert!(decode::<Vec<f64>>(1, &bytes).is_err());
    }
}
