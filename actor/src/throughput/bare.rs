//! The loop of Python's own: a process that steps the same environments whenever it is asked to.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rookery_common::configuration::HostConfiguration;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Case;
use crate::environments::hosted;

/// What the loop needs to make the same environments as a host.
const SCRIPT: [&str; 6] = [
    "import copy, importlib, inspect, itertools, json, os, sys, time\nimport numpy as np\nimport gymnasium",
    include_str!("../environments/hosted/spaces.py"),
    include_str!("../environments/hosted/instances.py"),
    include_str!("../environments/hosted/resets.py"),
    include_str!("../environments/hosted/pictures.py"),
    include_str!("bare.py"),
];

/// Why there is no loop of Python's own to compare with.
#[derive(Debug, thiserror::Error)]
pub enum BareError {
    /// It cannot be run.
    #[error("cannot run a loop of Python's own with {python}: {source}")]
    Io {
        /// The interpreter.
        python: String,
        /// Why not.
        source: io::Error,
    },
    /// It has said something else than was asked for, or nothing.
    #[error("a loop of Python's own with {python} said {said:?}; what went wrong stands above")]
    Answer {
        /// The interpreter.
        python: String,
        /// What it said.
        said: String,
    },
}

/// A running loop; it ends with this handle.
pub(super) struct Bare {
    python: String,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    is_vector: bool,
}

#[derive(Deserialize)]
struct Hello {
    vector: bool,
}

impl Bare {
    /// Starts it and makes its environments.
    pub(super) fn start(settings: &HostConfiguration, case: &Case) -> Result<Self, BareError> {
        let python = settings.python.display().to_string();
        let failed = |source| BareError::Io {
            python: python.clone(),
            source,
        };
        let mut command = Command::new(&settings.python);
        command.arg("-c").arg(SCRIPT.join("\n"));
        hosted::set_environment(settings, &mut command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let mut bare = Self {
            python: python.clone(),
            child,
            questions,
            answers: BufReader::new(answers),
            is_vector: false,
        };
        let request = json!({
            "id": case.id,
            "arguments": case.arguments,
            "num_envs": case.num_envs,
        });
        let hello: Hello = bare.ask(&request)?;
        bare.is_vector = hello.vector;
        Ok(bare)
    }

    /// Whether it is a vector environment that steps and resets all instances.
    pub(super) const fn is_vector(&self) -> bool {
        self.is_vector
    }

    /// Steps for about this time, and gives environment steps a second.
    pub(super) fn measure(&mut self, time: Duration, is_seeded: bool) -> Result<f64, BareError> {
        self.ask(&json!({ "seconds": time.as_secs_f64(), "is_seeded": is_seeded }))
    }

    fn ask<T: DeserializeOwned>(&mut self, question: &Value) -> Result<T, BareError> {
        let mut line = String::new();
        let asked = writeln!(self.questions, "{question}");
        // One that has ended does not hear the question; then there is no answer either.
        let answered = match asked {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            Err(error) => Err(error),
            Ok(()) => self.answers.read_line(&mut line),
        };
        answered.map_err(|source| BareError::Io {
            python: self.python.clone(),
            source,
        })?;
        serde_json::from_str(&line).map_err(|_| BareError::Answer {
            python: self.python.clone(),
            said: line.trim().to_owned(),
        })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
