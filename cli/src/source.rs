//! Where a command's configuration comes from: a preset, a file or a run, and what the command
//! line lays over it.

use std::path::{Path, PathBuf};

use clap::Args;
use rookery_common::configuration::{Configuration, Layers};

use crate::failure::Failure;
use crate::run_directory::RunDirectory;

/// What any command that takes a configuration lays over it.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Overrides {
    /// Change one key, such as `ppo.epochs=4`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Seed of everything random
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
}

impl Overrides {
    /// Lays them over `layers`.
    pub(crate) fn lay(&self, mut layers: Layers) -> Layers {
        for assignment in &self.set {
            layers = layers.set(assignment.clone());
        }
        match self.seed {
            // TOML's integers are signed; a seed beyond them is refused where it is checked.
            Some(seed) => layers.value("run.seed", i64::try_from(seed).unwrap_or(-1)),
            None => layers,
        }
    }
}

/// What a command line names as the beginning of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A preset, or what was meant as one.
    Preset(String),
    /// A TOML file.
    File(PathBuf),
    /// A run's folder, whose `config.toml` is meant.
    Run(RunDirectory),
}

impl Source {
    /// Understands `<preset | file.toml | run directory>`.
    ///
    /// # Errors
    /// Where a folder is named that holds no run.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let path = Path::new(text);
        let is_preset = Configuration::presets()
            .iter()
            .any(|preset| preset.name == text);
        if is_preset {
            return Ok(Self::Preset(text.to_owned()));
        }
        if path.is_dir() {
            return match RunDirectory::existing(path) {
                Ok(run) if run.configuration_file().is_file() => Ok(Self::Run(run)),
                _ => Err(Failure::usage(format!(
                    "{text} is a folder without a config.toml; name a preset, a TOML file or a run"
                ))),
            };
        }
        let looks_like_file = path
            .extension()
            .is_some_and(|extension| extension == "toml")
            || text.contains(std::path::MAIN_SEPARATOR)
            || path.exists();
        Ok(if looks_like_file {
            Self::File(path.to_owned())
        } else {
            Self::Preset(text.to_owned())
        })
    }

    /// Its layer. What is wrong with it shows when the layers are built.
    pub(crate) fn layers(&self) -> Layers {
        match self {
            Self::Preset(name) => Layers::new().preset(name.clone()),
            Self::File(path) => Layers::new().file(path.clone()),
            Self::Run(run) => Layers::new().file(run.configuration_file()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_paths_and_folders_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        assert!(Source::parse(&text(folder.path())).is_err());
        std::fs::write(folder.path().join("config.toml"), "").unwrap();
        assert!(matches!(
            Source::parse(&text(folder.path())),
            Ok(Source::Run(_))
        ));

        let preset = Configuration::presets()[0].name;
        assert_eq!(
            Source::parse(preset).unwrap(),
            Source::Preset(preset.to_owned())
        );
        for file in ["mine.toml", "./mine"] {
            assert_eq!(
                Source::parse(file).unwrap(),
                Source::File(PathBuf::from(file))
            );
        }
        // A misspelt preset stays a preset, so that its error can suggest the right one.
        assert_eq!(
            Source::parse("cartpole").unwrap(),
            Source::Preset("cartpole".to_owned())
        );
    }

    #[test]
    fn flags_win_over_the_preset() {
        let overrides = Overrides {
            set: vec!["ppo.epochs=3".to_owned()],
            seed: Some(42),
        };
        let layers = Source::Preset(Configuration::presets()[0].name.to_owned()).layers();
        let configuration = overrides.lay(layers).build().unwrap();
        assert_eq!(configuration.ppo.epochs, 3);
        assert_eq!(configuration.run.seed, 42);
    }
}
