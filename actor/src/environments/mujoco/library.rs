//! MuJoCo's shared library behind a safe interface: [`Library`], [`Model`] and [`Simulations`].
//! Everything unsafe that has to do with it is in this module and the one below it.
//!
//! The library is loaded at run time and used through its *batch* functions (`mjb_*`, MuJoCo 3.17
//! and later). They hold many simulations, hand out states and derived fields as arrays that are
//! asked for by name, and report an error of one simulation as a status. So nothing here knows how
//! `mjModel` or `mjData` are laid out, which differs from version to version, and an error inside a
//! simulation does not end the process, as MuJoCo's errors otherwise do.

#![expect(
    unsafe_code,
    reason = "MuJoCo is a C library that is loaded at run time; the functions below keep its contracts"
)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) use simulations::{Model, Output, Simulations};

use super::locate::{LibraryError, VERSIONS};
use crate::environments::EnvironmentFault;

mod simulations;

/// Room for MuJoCo's descriptions of errors.
const MESSAGE_BYTES: usize = 1024;

/// A part of a simulation's state, as its bit of `mjtState`.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(super) enum Component {
    Positions = 1 << 1,
    Velocities = 1 << 2,
    Controls = 1 << 6,
    /// `xfrc_applied`: six values for each body.
    BodyForces = 1 << 8,
}

/// What MuJoCo hands out and takes back; never looked into.
#[repr(C)]
struct Opaque {
    bytes: [u8; 0],
    /// Neither moved between threads nor shared unless a wrapper says so.
    marker: PhantomData<*mut u8>,
}

/// `mjBatchConfig`.
#[repr(C)]
struct BatchConfig {
    num_threads: c_int,
    persistent: bool,
}

/// The beginning of `mjLogMessage`.
#[repr(C)]
struct LogMessage {
    level: c_int,
    topic: c_int,
    subject: [c_char; MESSAGE_BYTES],
}

type LogHandler = extern "C" fn(*const LogMessage);
type ModelAndData = unsafe extern "C" fn(*const Opaque, *mut Opaque);
type OnSimulation = unsafe extern "C" fn(*const Opaque, *mut Opaque, c_int, *mut c_void);

/// Declares the functions that are used, and loads them all.
macro_rules! functions {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[expect(non_snake_case, reason = "the library's names")]
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// # Safety
            /// The library must be a MuJoCo whose functions have these signatures.
            unsafe fn load(library: &libloading::Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    // SAFETY: the caller vouches for the signatures; the pointers stay valid
                    // because the library is never unloaded.
                    $($name: unsafe { *library.get(concat!(stringify!($name), "\0").as_bytes())? },)*
                })
            }
        }
    };
}

functions! {
    mju_setLogHandler(LogHandler) -> *const c_void;
    mj_parseXMLString(*const c_char, *const c_void, *mut c_char, c_int) -> *mut Opaque;
    mj_compile(*mut Opaque, *const c_void) -> *mut Opaque;
    mjs_getError(*mut Opaque) -> *const c_char;
    mj_deleteSpec(*mut Opaque);
    mj_deleteModel(*mut Opaque);
    mj_stateSize(*const Opaque, c_int) -> c_int;
    mj_name2id(*const Opaque, c_int, *const c_char) -> c_int;
    mj_rnePostConstraint(*const Opaque, *mut Opaque);
    mjb_makeBatch(*const Opaque, c_int, *const BatchConfig, *mut c_char, c_int) -> *mut Opaque;
    mjb_deleteBatch(*mut Opaque);
    mjb_nstate(*const Opaque) -> c_int;
    mjb_state(*mut Opaque) -> *mut f64;
    mjb_stateComponent(*mut Opaque, c_int, *mut c_int) -> *mut f64;
    mjb_output(*mut Opaque, *const c_char, *mut c_int, *mut c_int) -> *mut c_void;
    mjb_expand(*mut Opaque, *const c_char, *mut c_int, *mut c_int) -> *mut c_void;
    mjb_step(*mut Opaque, *const c_int, c_int, c_int, c_int) -> c_int;
    mjb_forward(*mut Opaque, *const c_int, c_int, c_int) -> c_int;
    mjb_reset(*mut Opaque, *const c_int, c_int, *const c_int, c_int) -> c_int;
    mjb_apply(*mut Opaque, *const c_int, c_int, OnSimulation, *mut c_void, c_int) -> c_int;
    mjb_status(*const Opaque) -> *const c_int;
    mjb_error(*const Opaque, c_int) -> *const c_char;
}

/// A MuJoCo that is loaded for as long as the process lives.
pub(super) struct Library {
    functions: Functions,
    version: &'static str,
}

impl fmt::Debug for Library {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MuJoCo {}", self.version)
    }
}

impl Library {
    /// Loads the library at `path`, which stays loaded: it has state of its own threads that
    /// nothing could take down.
    ///
    /// # Errors
    /// Where it cannot be loaded, is a version that nothing here was tested with, or does not do
    /// what MuJoCo does.
    pub(super) fn open(path: &Path) -> Result<&'static Self, LibraryError> {
        let unusable = |reason: String| LibraryError::Unusable {
            path: path.to_owned(),
            reason,
        };
        // SAFETY: loading runs the library's initialisers; whoever put the file where MuJoCo is
        // looked for trusts it as they trust this program.
        let library = unsafe { libloading::Library::new(path) }
            .map_err(|error| unusable(error.to_string()))?;
        // SAFETY: `mj_version` has had this signature in every version of MuJoCo, and what does
        // not export it is refused.
        let version = unsafe {
            let function = library
                .get::<unsafe extern "C" fn() -> c_int>(b"mj_version\0")
                .map_err(|error| unusable(error.to_string()))?;
            function()
        };
        let known = VERSIONS.iter().find(|(number, _)| *number == version);
        let Some((_, version)) = known else {
            return Err(LibraryError::Version {
                path: path.to_owned(),
                got: version,
            });
        };
        // SAFETY: it is one of the versions from whose headers the signatures were taken.
        let functions = unsafe { Functions::load(&library) };
        let functions = functions.map_err(|error| unusable(error.to_string()))?;
        // Unloading is not possible: handlers and threads of the library would go with it.
        let _: &'static mut libloading::Library = Box::leak(Box::new(library));
        let library: &'static Self = Box::leak(Box::new(Self { functions, version }));
        // SAFETY: the handler is a function that lives as long as the program, takes what the
        // library gives, and may be called from any thread.
        unsafe { (library.functions.mju_setLogHandler)(log) };
        library.check().map_err(unusable)?;
        Ok(library)
    }

    /// The version, as its wheel is called.
    pub(super) const fn version(&self) -> &'static str {
        self.version
    }

    /// Simulates a falling ball, whose every number is known.
    fn check(&'static self) -> Result<(), String> {
        let ball = "<mujoco><option timestep='0.5' gravity='0 0 -8'/><worldbody><body name='ball'>\
                    <freejoint/><geom size='1'/></body></worldbody></mujoco>";
        let fault = |fault: EnvironmentFault| fault.message;
        let model = Model::compile(self, ball).map_err(fault)?;
        let mut simulations = Simulations::new(&model, 2, false).map_err(fault)?;
        let positions = simulations.output("xpos").map_err(fault)?;
        let place = simulations.component(Component::Positions);
        simulations.step(1).map_err(fault)?;
        let fallen = simulations.row(1)[place.clone()].get(2).copied();
        let found = (
            model.state_size(Component::Positions),
            model.state_size(Component::BodyForces),
            model.body("ball"),
            place.len(),
            simulations.shown(positions, 1).len(),
            fallen,
        );
        let expected = (7, 12, Some(1), 7, 6, Some(-2.0));
        if found == expected {
            Ok(())
        } else {
            Err(format!(
                "a falling ball gives {found:?} instead of {expected:?}"
            ))
        }
    }
}

/// Takes MuJoCo's messages instead of its standard handler, which prints them and writes files.
///
/// An error arrives here only where a function is misused that has no status of its own; MuJoCo
/// ends the process after it, so that it must at least be seen.
extern "C" fn log(message: *const LogMessage) {
    static WARNINGS: AtomicU64 = AtomicU64::new(0);
    const WARNING: c_int = 2;
    // SAFETY: the library passes a message that is valid during the call, whose subject is
    // terminated.
    let (level, subject) = unsafe {
        let subject = CStr::from_ptr((&raw const (*message).subject).cast());
        ((*message).level, subject.to_string_lossy())
    };
    if level > WARNING {
        tracing::error!(message = %subject, "MuJoCo ends the process");
    } else if level == WARNING {
        // One unstable policy can warn in every episode: the first, the second, the fourth, ..
        let count = WARNINGS.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            tracing::warn!(message = %subject, count, "MuJoCo warns");
        }
    }
}

fn fault(message: &str) -> EnvironmentFault {
    EnvironmentFault::new(format!("MuJoCo: {message}"))
}

#[cfg(test)]
mod tests;
