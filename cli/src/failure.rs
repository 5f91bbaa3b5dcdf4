//! How an error ends the process.

use rookery_common::configuration::ConfigurationError;
use rookery_common::exit::Exit;
use rookery_common::security::SecurityError;

/// An error that knows how the process is to end.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// What the caller of the process sees.
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    /// An error with this message.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// The command line or a file that it names is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

/// The exit that an error stands for.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    let known = error.chain().find_map(|cause| {
        if cause.is::<ConfigurationError>() {
            return Some(Exit::Usage);
        }
        if let Some(error) = cause.downcast_ref::<SecurityError>() {
            return Some(error.exit());
        }
        cause.downcast_ref::<Failure>().map(|failure| failure.exit)
    });
    known.unwrap_or(Exit::Internal)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_exit_survives_added_context() {
        let error: anyhow::Result<()> = Err(Failure::usage("no such preset").into());
        let error = error.context("while reading the command line").unwrap_err();
        assert_eq!(exit_of(&error), Exit::Usage);
        assert_eq!(exit_of(&anyhow::anyhow!("disk on fire")), Exit::Internal);
    }
}
