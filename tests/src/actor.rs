//! An actor as a process.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::program::{Exit, Program};
use crate::wait;

/// A running actor.
#[derive(Debug)]
pub struct Actor(pub(crate) Program);

impl Actor {
    /// Waits until it has ended by itself because the run is complete.
    pub fn finish(mut self) {
        let exit = self.0.wait_exit(Duration::from_secs(10));
        assert_eq!(exit, Exit::Code(0), "how an actor ended after the run");
    }

    /// Waits until it has ended after the run, and ends it where it came too late to hear that the run is
    /// complete: it looks for its learner on and on then.
    pub fn finish_even_late(mut self) {
        wait::until("an actor that ends or finds no learner", wait::LONG, || {
            self.0.exit().is_some() || self.0.log().contains("no session with the learner")
        });
        if self.0.exit().is_none() {
            self.0.terminate();
        }
        self.finish();
    }
}

impl Deref for Actor {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.0
    }
}

impl DerefMut for Actor {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.0
    }
}
