//! `rookery plot`: learning curves as an SVG picture, from what runs wrote down.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use rookery_common::configuration::{Configuration, RunConfiguration};

use crate::failure::Failure;
use crate::run_directory::RunDirectory;

mod curve;
mod draw;

use curve::{Curve, Summary};

/// Draw the learning curves of runs
///
/// A curve is the mean return of the last 100 training episodes. Runs that differ in nothing but
/// their seed become one curve: their mean, with a band of one standard error.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rookery plot runs/cartpole-ppo-1-001
  rookery plot runs/cartpole-ppo-* --x time -o cartpole.svg")]
pub(crate) struct PlotArguments {
    /// The runs' folders
    #[arg(value_name = "RUN_DIR", required = true)]
    runs: Vec<PathBuf>,
    /// What the horizontal axis counts
    #[arg(long, value_enum, default_value_t)]
    x: Axis,
    /// The picture's file, an SVG
    #[arg(short, long, value_name = "FILE", default_value = "learning-curve.svg")]
    output: PathBuf,
}

/// What the horizontal axis counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Axis {
    /// Environment steps.
    #[default]
    Steps,
    /// Seconds of training.
    Time,
}

/// One curve of the picture: runs that differ in nothing but their seed.
#[derive(Clone, Debug)]
struct Group {
    label: String,
    curves: Vec<Curve>,
    summary: Summary,
}

/// What is drawn.
#[derive(Clone, Debug)]
struct Picture {
    title: String,
    axis: Axis,
    /// Return from which the environment counts as solved, where all runs agree on one.
    threshold: Option<f64>,
    groups: Vec<Group>,
}

/// Draws the picture.
///
/// # Errors
/// Where a run has no curve, or the picture cannot be written.
pub(crate) fn plot(arguments: &PlotArguments) -> anyhow::Result<()> {
    let output = &arguments.output;
    if output
        .extension()
        .is_none_or(|extension| extension != "svg")
    {
        return Err(Failure::usage(format!(
            "{} does not end in .svg, the only kind of picture that is drawn; every browser shows \
             it, and `rsvg-convert` or Inkscape make a PNG of it",
            output.display()
        ))
        .into());
    }
    let picture = gather(&arguments.runs, arguments.x)?;
    let text = draw::svg(&picture)?;
    fs::write(output, text).with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}", output.display());
    Ok(())
}

/// Reads the runs and puts together what belongs together, in the order in which it was named.
fn gather(runs: &[PathBuf], axis: Axis) -> anyhow::Result<Picture> {
    let mut order: Vec<String> = Vec::new();
    let mut members: BTreeMap<String, Vec<(PathBuf, Curve)>> = BTreeMap::new();
    let mut environments: Vec<String> = Vec::new();
    let mut thresholds = Vec::new();
    for path in runs {
        let run = RunDirectory::existing(path)?;
        let configuration = run.read_configuration()?;
        let curve = Curve::read(&run.metrics_file(), axis)?;
        if !environments.contains(&configuration.environment.id) {
            environments.push(configuration.environment.id.clone());
        }
        thresholds.push(configuration.run.solved_return);
        let key = kind(&configuration);
        if !members.contains_key(&key) {
            order.push(key.clone());
        }
        members.entry(key).or_default().push((path.clone(), curve));
    }
    let groups = order
        .iter()
        .filter_map(|key| members.remove(key))
        .map(|members| {
            let label = label(&members);
            let curves: Vec<Curve> = members.into_iter().map(|(_, curve)| curve).collect();
            let summary = Summary::of(&curves);
            Group {
                label,
                curves,
                summary,
            }
        })
        .collect();
    let threshold = thresholds.first().copied().flatten();
    Ok(Picture {
        title: environments.join(", "),
        axis,
        threshold: threshold.filter(|value| thresholds.iter().all(|other| *other == Some(*value))),
        groups,
    })
}

/// What two runs have in common that differ in their seed, their place and their machine only.
fn kind(configuration: &Configuration) -> String {
    let trained = Configuration {
        run: RunConfiguration {
            algorithm: configuration.run.algorithm,
            ..RunConfiguration::default()
        },
        environment: configuration.environment.clone(),
        rollout: configuration.rollout.clone(),
        schedule: configuration.schedule.clone(),
        policy: configuration.policy.clone(),
        ppo: configuration.ppo.clone(),
        impala: configuration.impala.clone(),
        dqn: configuration.dqn.clone(),
        sac: configuration.sac.clone(),
        td3: configuration.td3.clone(),
        replay: configuration.replay.clone(),
        normalisation: configuration.normalisation.clone(),
        ..Configuration::default()
    };
    trained.to_toml()
}

/// What a group is called: its folder, without seed and number where `rookery train` named it.
fn label(members: &[(PathBuf, Curve)]) -> String {
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned()
    };
    let first = members
        .first()
        .map(|(path, _)| name(path))
        .unwrap_or_default();
    if members.len() == 1 {
        return first;
    }
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts: Vec<&str> = first.split('-').collect();
    while parts.len() > 1 && parts.last().is_some_and(|part| is_number(part)) {
        parts.pop();
    }
    format!("{}, {} runs", parts.join("-"), members.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run with two points whose curve ends at `last`.
    fn run(parent: &Path, name: &str, seed: u64, epochs: u32, last: f64) -> PathBuf {
        let path = parent.join(name);
        let run = RunDirectory::create(&path).unwrap();
        let mut configuration = Configuration::default();
        configuration.run.seed = seed;
        configuration.run.solved_return = Some(475.0);
        configuration.ppo.epochs = epochs;
        run.write_configuration(&configuration.to_toml()).unwrap();
        let lines = format!(
            "{{\"update\":1,\"env_steps\":2048,\"seconds\":0.1,\"mean_return\":null}}\n\
             {{\"update\":2,\"env_steps\":4096,\"seconds\":0.2,\"mean_return\":20.5}}\n\
             {{\"env_steps\":4096,\"version\":2,\"evaluation_return\":30.0,\"evaluation_episodes\":5}}\n\
             {{\"update\":3,\"env_steps\":6144,\"seconds\":0.3,\"mean_return\":{last}}}\n\
             {{\"update\":4,\"env_st"
        );
        fs::write(run.metrics_file(), lines).unwrap();
        path
    }

    #[test]
    fn runs_that_differ_in_their_seed_become_one_curve() {
        let parent = tempfile::tempdir().unwrap();
        let runs = [
            run(parent.path(), "cartpole-ppo-1-001", 1, 4, 100.0),
            run(parent.path(), "other", 1, 8, 50.0),
            run(parent.path(), "cartpole-ppo-2-001", 2, 4, 200.0),
        ];
        let picture = gather(&runs, Axis::Steps).unwrap();
        let labels: Vec<_> = picture
            .groups
            .iter()
            .map(|group| group.label.as_str())
            .collect();
        assert_eq!(labels, ["cartpole-ppo, 2 runs", "other"]);
        assert_eq!(picture.threshold, Some(475.0));
        let last = picture.groups[0].summary.points.last().unwrap();
        assert_eq!((last.x, last.mean), (6144.0, 150.0));
    }

    #[test]
    fn the_picture_holds_title_labels_and_threshold() {
        let parent = tempfile::tempdir().unwrap();
        let runs = [
            run(parent.path(), "a-1", 1, 4, 100.0),
            run(parent.path(), "a-2", 2, 4, 200.0),
        ];
        for (axis, unit) in [
            (Axis::Steps, "environment steps"),
            (Axis::Time, "seconds of training"),
        ] {
            let text = draw::svg(&gather(&runs, axis).unwrap()).unwrap();
            for part in ["<svg", "CartPole-v1", "a, 2 runs", unit, "475"] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
    }

    #[test]
    fn another_kind_of_picture_is_refused() {
        let arguments = PlotArguments {
            runs: vec![PathBuf::from("runs/a")],
            x: Axis::Steps,
            output: PathBuf::from("curve.png"),
        };
        assert!(plot(&arguments).unwrap_err().to_string().contains(".svg"));
    }
}
