//! A tracking server that is a stub.
