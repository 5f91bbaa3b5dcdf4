//! Loops of Python's own: processes that step the same environments whenever they are asked to.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rookery_common::configuration::HostConfiguration;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Case, Measured};
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
    /// Starts it and makes its environments, so many groups of them that it steps in turn, for each of which it
    /// draws so many rows of actions.
    pub(super) fn start(
        settings: &HostConfiguration,
        case: &Case,
        num_groups: usize,
        num_rows: usize,
    ) -> Result<Self, BareError> {
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
            "num_groups": num_groups,
            "num_rows": num_rows,
        });
        bare.say(&request)?;
        bare.is_vector = bare.hear::<Hello>()?.vector;
        Ok(bare)
    }

    /// Whether it is a vector environment that steps and resets all instances.
    pub(super) const fn is_vector(&self) -> bool {
        self.is_vector
    }

    /// Steps all loops at once for about this time.
    pub(super) fn measure(
        loops: &mut [Self],
        time: Duration,
        is_seeded: bool,
    ) -> Result<Measured, BareError> {
        let question = json!({ "seconds": time.as_secs_f64(), "is_seeded": is_seeded });
        for bare in &mut *loops {
            bare.say(&question)?;
        }
        loops.iter_mut().map(Self::hear::<Measured>).sum()
    }

    /// One that has ended does not hear it; then there is no answer either.
    fn say(&mut self, question: &Value) -> Result<(), BareError> {
        match writeln!(self.questions, "{question}") {
            Err(source) if source.kind() != io::ErrorKind::BrokenPipe => Err(self.broken(source)),
            _ => Ok(()),
        }
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<T, BareError> {
        let mut line = String::new();
        if let Err(source) = self.answers.read_line(&mut line) {
            return Err(self.broken(source));
        }
        serde_json::from_str(&line).map_err(|_| BareError::Answer {
            python: self.python.clone(),
            said: line.trim().to_owned(),
        })
    }

    fn broken(&self, source: io::Error) -> BareError {
        BareError::Io {
            python: self.python.clone(),
            source,
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
