//! `rookery presets`: the tuned configurations that come with the program.

use clap::Args;
use rookery_common::configuration::{Configuration, Layers, Preset};

use crate::failure::Failure;
use crate::format;

/// List the presets, or print one
///
/// A preset's TOML is a good beginning for a file of your own:
/// `rookery presets cartpole-ppo > mine.toml`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PresetsArguments {
    /// Print the TOML of this preset
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Prints the list, or the one that was asked for.
///
/// # Errors
/// Where no preset has the name.
pub(crate) fn presets(arguments: &PresetsArguments) -> anyhow::Result<()> {
    let all = Configuration::presets();
    let Some(name) = &arguments.name else {
        print!("{}", table(all)?);
        return Ok(());
    };
    if let Some(preset) = all.iter().find(|preset| preset.name == name) {
        print!("{}", preset.text);
        return Ok(());
    }
    // Building it names the preset that was probably meant.
    Layers::new().preset(name.clone()).build()?;
    Err(Failure::usage(format!(
        "there is no preset `{name}`; `rookery presets` lists them"
    ))
    .into())
}

fn table(presets: &[Preset]) -> anyhow::Result<String> {
    let heading = [
        "PRESET",
        "ALGORITHM",
        "ENVIRONMENT",
        "STEPS",
        "SOLVED AT",
        "DESCRIPTION",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for preset in presets {
        let configuration = Layers::new().preset(preset.name).build()?;
        rows.push(vec![
            preset.name.to_owned(),
            configuration.run.algorithm.name().to_uppercase(),
            configuration.environment.id,
            format::grouped(configuration.run.total_env_steps),
            format::optional_return(configuration.run.solved_return),
            preset.description().to_owned(),
        ]);
    }
    Ok(format::table(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_every_preset() {
        let text = table(Configuration::presets()).unwrap();
        assert_eq!(text.lines().count(), Configuration::presets().len() + 1);
        for preset in Configuration::presets() {
            assert!(text.contains(preset.name), "{}", preset.name);
        }
    }
}
