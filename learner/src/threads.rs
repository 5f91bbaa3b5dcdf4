//! How the threads that libtorch computes with wait for work.

use std::env;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rookery_common::configuration::Configuration;
use rookery_common::policy::EncoderKind;

/// How often a thread without work looks for some before it sleeps. libgomp reads it when it is loaded.
const SPIN_COUNT: &str = "GOMP_SPINCOUNT";

/// What else says how threads wait; whoever set one of both has chosen.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";

/// Replaces this process by one whose idle threads sleep at once, where that is better and nobody has
/// chosen. It comes back where there is nothing to do or it fails.
///
/// Threads of libgomp look for work for milliseconds, which is what many small operations need. Between those of
/// a policy that sees images there are long stretches of convolutions, which threads of this process compute
/// ([`Encoding`](crate::networks::Encoding)); they and local actors got a tenth less of the processors.
///
/// # Errors
/// Why the program could not be started again; nothing has changed.
pub fn sleep_when_idle(configuration: &Configuration) -> io::Result<()> {
    let has_images = configuration.policy.encoder != EncoderKind::Mlp;
    let has_chosen = [SPIN_COUNT, WAIT_POLICY].map(env::var_os) != [None, None];
    if !has_images || configuration.learner.threads <= 1 || has_chosen {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let mut command = Command::new(env::current_exe()?);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    Err(command.args(arguments).env(SPIN_COUNT, "0").exec())
}
