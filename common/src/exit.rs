//! How a process ended, for whoever started it.

use std::fmt;
use std::process::ExitCode;

/// The exit codes of all Rookery binaries, after BSD's `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// The process did what it was asked to.
    Ok = 0,
    /// The command line or the configuration is wrong; starting again changes nothing.
    Usage = 64,
    /// A peer could not be reached within the time that was given.
    Unavailable = 69,
    /// A defect of the program or a failure of its host.
    Internal = 70,
    /// The work is not finished, and starting again continues it.
    TryAgain = 75,
    /// The peer does not permit it: a wrong token or certificate, or an environment that is not
    /// the run's.
    NotPermitted = 77,
}

impl Exit {
    /// The number that the parent process sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What a child's exit code says; `None` where it is none of these, as after a signal.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        [
            Self::Ok,
            Self::Usage,
            Self::Unavailable,
            Self::Internal,
            Self::TryAgain,
            Self::NotPermitted,
        ]
        .into_iter()
        .find(|exit| i32::from(exit.code()) == code)
    }

    /// Whether a supervisor may expect another start to go better.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::TryAgain)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ok => "ok",
            Self::Usage => "bad configuration",
            Self::Unavailable => "peer unavailable",
            Self::Internal => "internal error",
            Self::TryAgain => "try again",
            Self::NotPermitted => "not permitted",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_supervisors_know() {
        for (exit, code) in [
            (Exit::Ok, 0),
            (Exit::Usage, 64),
            (Exit::Unavailable, 69),
            (Exit::Internal, 70),
            (Exit::TryAgain, 75),
            (Exit::NotPermitted, 77),
        ] {
            assert_eq!(i32::from(exit.code()), code);
            assert_eq!(Exit::from_code(code), Some(exit));
        }
        assert_eq!(Exit::from_code(1), None);
    }
}
