//! The presets that come with the program.

use super::violation::Problem;

/// A tuned configuration that comes with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// What `--preset` takes.
    pub name: &'static str,
    /// The preset itself, TOML with comments.
    pub text: &'static str,
}

impl Preset {
    /// What it is for, in one line: the first comment of its text.
    #[must_use]
    pub fn description(&self) -> &'static str {
        let first = self.text.lines().next().unwrap_or_default();
        first.trim_start_matches('#').trim()
    }
}

/// Embeds files of `configs/`.
macro_rules! embed {
    ($($name:literal),* $(,)?) => {
        &[$(Preset {
            name: $name,
            text: include_str!(concat!("../../../configs/", $name, ".toml")),
        }),*]
    };
}

/// Every preset, in alphabetical order.
pub(super) const PRESETS: &[Preset] = embed![
    "acrobot-dqn",
    "acrobot-ppo",
    "bitflip-dqn-her",
    "cartpole-a2c",
    "cartpole-dqn",
    "cartpole-impala",
    "cartpole-memory-ppo",
    "cartpole-ppo",
    "cartpole-reinforce",
    "catch-dqn",
    "frozenlake-ppo",
    "frozenlake-q",
    "gridworld-ppo",
    "gridworld-sarsa",
    "halfcheetah-ppo",
    "halfcheetah-sac",
    "hopper-sac",
    "lunarlander-ppo",
    "mountaincar-dqn",
    "mountaincar-ppo",
    "mountaincarcontinuous-ppo",
    "mountaincarcontinuous-sac",
    "pendulum-ppo",
    "pendulum-sac",
    "pendulum-td3",
    "pointreach-sac-her",
    "pong-dqn",
    "pong-ppo",
    "tmaze-ppo",
];

/// The preset with this name.
pub(super) fn find(name: &str) -> Result<&'static Preset, Problem> {
    PRESETS
        .iter()
        .find(|preset| preset.name == name)
        .ok_or_else(|| Problem::UnknownPreset {
            name: name.to_owned(),
            suggestion: PRESETS
                .iter()
                .map(|preset| (strsim::jaro_winkler(name, preset.name), preset.name))
                .filter(|(likeness, _)| *likeness >= 0.8)
                .max_by(|(a, _), (b, _)| a.total_cmp(b))
                .map(|(_, name)| name.to_owned()),
        })
}
