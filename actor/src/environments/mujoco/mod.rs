//! Gymnasium's MuJoCo environments (`-v5`) without Python: the physics of MuJoCo's own library, which
//! is loaded when the first of them is made.
//!
//! What flows through here: a [`library`](locate) is found and loaded, a model is compiled and a
//! [`task`] set on it, and the [`batch`] of both is stepped. Models are Gymnasium's own, in
//! `actor/assets/mujoco`; observations, rewards and ends of episodes are those of Gymnasium 1.4.0,
//! bit for bit where the same library computes both (`actor/tests/mujoco.rs`). As with the other
//! native environments, start states come from the same distributions, but from Rookery's random
//! numbers, and an action is clipped to its bounds.
//!
//! MuJoCo takes its elementary functions from the C library of the machine, so that trajectories are
//! the same bits only on machines that are alike in that.

pub use locate::{LIBRARY_VARIABLE, LibraryError, version};

use super::registry::Constructor;

mod locate;
mod library;
mod batch;
mod task;
mod numpy;
mod runners;
mod creatures;
mod pendulums;
mod arms;

/// Every MuJoCo environment, by its id.
pub(super) const REGISTRY: [(&str, Constructor); 11] = [
    ("HalfCheetah-v5", runners::half_cheetah),
    ("Hopper-v5", runners::hopper),
    ("Walker2d-v5", runners::walker),
    ("Swimmer-v5", runners::swimmer),
    ("Ant-v5", creatures::ant),
    ("Humanoid-v5", creatures::humanoid),
    ("HumanoidStandup-v5", creatures::humanoid_standup),
    ("InvertedPendulum-v5", pendulums::single),
    ("InvertedDoublePendulum-v5", pendulums::double),
    ("Reacher-v5", arms::reacher),
    ("Pusher-v5", arms::pusher),
];

/// Every id that needs MuJoCo's library.
pub fn ids() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|(id, _)| *id)
}
