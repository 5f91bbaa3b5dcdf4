//! The algorithms. Each is one folder with the same files: `config.rs` (its options), `loss.rs`
//! (pure functions from tensors to tensors), `update.rs` (what one round of experience does) and
//! `mod.rs`.

pub mod round;
pub mod returns;
pub mod ppo;
