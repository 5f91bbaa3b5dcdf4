//! The device that the networks live on.

use rookery_common::configuration::Device as Wanted;
use tch::{Cuda, Device};

/// Why the configured device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A GPU was asked for and cannot be used.
    #[error(
        "learner.device is `cuda` and libtorch finds no usable GPU ({reason}); install the CUDA \
         libraries with `scripts/libtorch --cuda`, check `nvidia-smi`, or set learner.device to \
         `cpu`"
    )]
    NoCuda {
        /// What is missing.
        reason: String,
    },
}

/// Loads libtorch's CUDA half where it is installed: the learner is linked to the CPU library
/// alone, so that one binary serves both kinds of machine. Must run before libtorch is first used.
fn load_cuda() -> Result<(), String> {
    #[expect(
        unsafe_code,
        reason = "loading a shared library runs its initialisers; this one is libtorch's own half"
    )]
    // SAFETY: `libtorch_cuda.so` registers its kernels with the libtorch that is already loaded
    // and has no other effect. It is never unloaded.
    let library = unsafe { libloading::Library::new("libtorch_cuda.so") };
    match library {
        Ok(library) => {
            std::mem::forget(library);
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Chooses the device and sets the number of threads that libtorch computes with.
///
/// # Errors
/// Where `cuda` is wanted and cannot be had.
pub fn choose(wanted: Wanted, num_threads: usize) -> Result<Device, DeviceError> {
    tch::set_num_threads(num_threads as i32);
    // A GPU's kernels are launched from the compute thread alone; pools would only contend.
    tch::set_num_interop_threads(1);
    if wanted == Wanted::Cpu {
        return Ok(Device::Cpu);
    }
    let loaded = load_cuda();
    let usable = loaded.is_ok() && Cuda::is_available();
    match (wanted, usable) {
        (_, true) => Ok(Device::Cuda(0)),
        (Wanted::Auto, false) => Ok(Device::Cpu),
        (_, false) => Err(DeviceError::NoCuda {
            reason: loaded
                .err()
                .unwrap_or_else(|| "no device is visible".to_owned()),
        }),
    }
}

/// What this build is, as a line of JSON: for `rookery doctor` and bug reports.
#[must_use]
pub fn version_report() -> String {
    let cuda = load_cuda().is_ok() && Cuda::is_available();
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "libtorch": env!("ROOKERY_LIBTORCH_VERSION"),
        "cuda": cuda,
        "threads": tch::get_num_threads(),
    })
    .to_string()
}
