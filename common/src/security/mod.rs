//! Who may connect, and who can listen in.

mod address;

pub use address::{Address, AddressError, Scheme};
