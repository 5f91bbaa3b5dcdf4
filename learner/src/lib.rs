//! Rookery's learner, in the order in which the data flows: the [`service`] lets actors in, whose
//! [`leases`] say what they collect; the [`intake`] checks what comes and the [`experience`] keeps
//! it; an [algorithm](algorithms) updates its [`networks`] through the [`optimiser`]; the new
//! parameters are [published](publish), and the [`checkpoint`] keeps what must not be lost.
//! The [`trainer`] is the thread that does it, [`learner`] the process around it, and the
//! [`diagnosis`] says whether it looks sick and what holds it back.

mod tensors;
pub mod learner;
mod address_file;
pub mod resume;
pub mod device;
pub mod memory;
mod threads;
pub mod run;
pub mod service;
pub mod fleet;
pub mod leases;
pub mod intake;
pub mod accounting;
pub mod queue;
pub mod experience;
pub mod algorithms;
pub mod networks;
pub mod optimiser;
pub mod episodes;
mod training;
pub mod diagnosis;
mod observer;
pub mod trainer;
pub mod publish;
pub mod checkpoint;
pub mod checkpoint_writer;
pub mod progress;
pub mod metrics;
pub mod metrics_log;
pub mod logs;
pub mod bench;
