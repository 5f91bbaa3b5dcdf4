//! An actor as a process.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::program::{Exit, Program};

/// A running actor.
#[derive(Debug)]
pub struct Actor(pub(crate) Program);

impl Actor {
    /// Waits until it has ended by itself because the run is complete.
    pub fn finish(mut self) {
        let exit = self.0.wait_exit(Duration::from_secs(10));
        assert_eq!(exit, Exit::Code(0), "how an actor ended after the run");
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
