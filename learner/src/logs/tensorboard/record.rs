//! How a file of events is framed: the records of TensorFlow's `TFRecord` format.
//!
//! A record is the length of its data (`u64`), the checksum of those eight bytes (`u32`), the data, and
//! their checksum (`u32`), all little-endian.

use crc::{CRC_32_ISCSI, Crc};

/// CRC-32C.
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// What is added to a rotated checksum, so that data which hold checksums have good ones themselves.
const MASK: u32 = 0xa282_ead8;

/// Puts a record with `data` behind what is in `file`.
pub(super) fn push(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked_checksum(&length).to_le_bytes());
    file.extend(data);
    file.extend(masked_checksum(data).to_le_bytes());
}

fn masked_checksum(data: &[u8]) -> u32 {
    CHECKSUM.checksum(data).rotate_right(15).wrapping_add(MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, appendix B.4.
        assert_eq!(CHECKSUM.checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(CHECKSUM.checksum(&[0xff; 32]), 0x62a8_ab43);
    }

    /// The first record that TensorFlow 2 writes into a file, but for its time, which is 0 here.
    #[test]
    fn a_record_is_framed_as_tensorflow_does() {
        let data = b"\x1a\x0dbrain.Event:2";
        let mut file = vec![7];
        push(&mut file, data);
        assert_eq!(file[0], 7);
        assert_eq!(file[1..9], [15, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(file[9..13], masked_checksum(&file[1..9]).to_le_bytes());
        assert_eq!(&file[13..28], data);
        assert_eq!(file[28..], masked_checksum(data).to_le_bytes());
    }
}
