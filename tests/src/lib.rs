//! What the end-to-end tests are written with: real learners and actors as processes of their own,
//! in a temporary directory, with the sockets that people would use.
//!
//! A [`Cluster`] is configured by a [`Setup`] and starts a [`Learner`] and [`Actor`]s; each is a
//! [`Program`], which ends when its handle drops and shows its log when a test fails. Every
//! [`wait`] has a deadline and a name. The learner's state is read over the `Control` service, and
//! every reading checks that no unroll is unaccounted for.
//!
//! [`Handmade`] speaks the protocol by hand, to say what no sound actor says, and a [`Relay`]
//! stands between an actor and the learner and tampers with what passes.

#![allow(
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness panics wherever the programs do not do what the test expects"
)]

pub mod wait;
mod runtime;
mod setup;
mod program;
mod learner;
mod actor;
mod cluster;
mod handmade;
mod relay;
mod http;
mod scrape;
mod certificates;

pub use actor::Actor;
pub use certificates::Certificates;
pub use cluster::Cluster;
pub use handmade::{Handmade, Stream, cart_pole, unroll};
pub use http::call;
pub use learner::{Learner, Outcome, Summary, Unrolls};
pub use program::{Exit, Program, binary};
pub use relay::{Relay, Tamper};
pub use runtime::block_on;
pub use scrape::{Scrape, scrape};
pub use setup::Setup;
