//! `rookery plot`: learning curves as a picture, from what runs wrote down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use rookery_common::configuration::{Configuration, RunConfiguration};

use crate::failure::Failure;
use crate::metrics_file::{MetricsFile, Record};
use crate::run_directory::RunDirectory;

mod curve;
mod draw;
mod raster;

use curve::{Curve, Summary};

/// Draw the learning curves of runs
///
/// Runs that differ in nothing but their seed become one curve: their mean, with a band of one standard
/// error around it and each run pale behind it. Without --metric it is the mean return of the last 100
/// training episodes; each metric that is named gets a panel of its own.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rookery plot runs/cartpole-ppo-1-001
  rookery plot runs/cartpole-ppo-* --x time -o cartpole.png
  rookery plot runs/cartpole-ppo-* --metric evaluation_return --metric entropy")]
pub(crate) struct PlotArguments {
    /// The runs' folders
    #[arg(value_name = "RUN_DIR", required = true)]
    runs: Vec<PathBuf>,
    /// What the horizontal axis counts
    #[arg(long, value_enum, default_value_t)]
    x: Axis,
    /// What is drawn: any number of metrics.jsonl, such as `evaluation_return`; may be repeated
    #[arg(long = "metric", value_name = "KEY", default_value = MEAN_RETURN)]
    metrics: Vec<String>,
    /// The picture's file, an .svg or a .png
    #[arg(short, long, value_name = "FILE", default_value = "learning-curve.svg")]
    output: PathBuf,
}

/// The mean return of the last 100 training episodes.
const MEAN_RETURN: &str = "mean_return";
/// The mean return of an evaluation.
const EVALUATION_RETURN: &str = "evaluation_return";

/// What the horizontal axis counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Axis {
    /// Environment steps.
    #[default]
    Steps,
    /// Time of training.
    Time,
}

/// One curve of a panel: runs that differ in nothing but their seed.
#[derive(Clone, Debug)]
struct Group {
    label: String,
    curves: Vec<Curve>,
    summary: Summary,
}

/// One metric.
#[derive(Clone, Debug)]
struct Panel {
    metric: String,
    /// Return from which the environment counts as solved, where all runs agree on one.
    threshold: Option<f64>,
    groups: Vec<Group>,
}

/// What is drawn.
#[derive(Clone, Debug)]
struct Picture {
    title: String,
    axis: Axis,
    panels: Vec<Panel>,
}

/// How the picture is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Svg,
    Png,
}

impl Format {
    fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => Err(Failure::usage(format!(
                "{} ends in neither .svg nor .png, the kinds of picture that are drawn",
                path.display()
            ))),
        }
    }
}

/// Draws the picture.
///
/// # Errors
/// Where a run has no such curve, or the picture cannot be written.
pub(crate) fn plot(arguments: &PlotArguments) -> anyhow::Result<()> {
    let output = &arguments.output;
    let format = Format::of(output)?;
    let picture = gather(&arguments.runs, arguments.x, &arguments.metrics)?;
    let text = draw::svg(&picture)?;
    let bytes = match format {
        Format::Svg => text.into_bytes(),
        Format::Png => raster::png(&text)?,
    };
    fs::write(output, bytes).with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}", output.display());
    Ok(())
}

/// A run, as far as it is drawn.
struct Run {
    path: PathBuf,
    /// What it has in common with others that differ in their seed.
    kind: String,
    environment: String,
    threshold: Option<f64>,
    records: Vec<Record>,
}

impl Run {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let run = RunDirectory::existing(path)?;
        let configuration = run.read_configuration()?;
        let file = run.metrics_file();
        let records = MetricsFile::new(&file).read()?.records;
        if records.is_empty() {
            let message = format!("{} holds nothing; has the run begun?", file.display());
            return Err(Failure::usage(message).into());
        }
        Ok(Self {
            path: path.to_owned(),
            kind: kind(&configuration),
            environment: configuration.environment.id,
            threshold: configuration.run.solved_return,
            records,
        })
    }

    fn curve(&self, metric: &str, axis: Axis) -> Result<Curve, Failure> {
        let curve = Curve::of(&self.records, metric, axis);
        if !curve.points.is_empty() {
            return Ok(curve);
        }
        let path = self.path.display();
        let keys: BTreeSet<&str> = self.records.iter().flat_map(Record::keys).collect();
        Err(Failure::usage(if keys.contains(metric) {
            format!("{path} knows no {metric} yet: no episode has ended")
        } else {
            let keys: Vec<&str> = keys.into_iter().collect();
            format!("{path} has no metric {metric}; it has {}", keys.join(", "))
        }))
    }
}

/// Reads the runs and puts together what belongs together, in the order in which it was named.
fn gather(paths: &[PathBuf], axis: Axis, metrics: &[String]) -> anyhow::Result<Picture> {
    let runs: Vec<Run> = paths
        .iter()
        .map(|path| Run::read(path))
        .collect::<anyhow::Result<_>>()?;
    let mut environments: Vec<&str> = Vec::new();
    for run in &runs {
        if !environments.contains(&run.environment.as_str()) {
            environments.push(&run.environment);
        }
    }
    let threshold = runs.first().and_then(|run| run.threshold);
    let threshold = threshold.filter(|_| runs.iter().all(|run| run.threshold == threshold));
    let panel = |metric: &String| {
        let is_return = [MEAN_RETURN, EVALUATION_RETURN].contains(&metric.as_str());
        Ok(Panel {
            metric: metric.clone(),
            threshold: threshold.filter(|_| is_return),
            groups: groups(&runs, metric, axis)?,
        })
    };
    let panels = metrics.iter().map(panel).collect::<anyhow::Result<_>>()?;
    Ok(Picture {
        title: environments.join(", "),
        axis,
        panels,
    })
}

fn groups(runs: &[Run], metric: &str, axis: Axis) -> anyhow::Result<Vec<Group>> {
    let mut order: Vec<&str> = Vec::new();
    let mut members: BTreeMap<&str, Vec<(&Path, Curve)>> = BTreeMap::new();
    for run in runs {
        if !members.contains_key(run.kind.as_str()) {
            order.push(&run.kind);
        }
        let curve = run.curve(metric, axis)?;
        members
            .entry(&run.kind)
            .or_default()
            .push((&run.path, curve));
    }
    let groups = order.iter().filter_map(|kind| members.remove(kind));
    let groups = groups.map(|members| {
        let label = label(&members);
        let curves: Vec<Curve> = members.into_iter().map(|(_, curve)| curve).collect();
        let summary = Summary::of(&curves);
        Group {
            label,
            curves,
            summary,
        }
    });
    Ok(groups.collect())
}

/// What two runs have in common that differ in their seed, their place and their machine only.
fn kind(configuration: &Configuration) -> String {
    let common = Configuration::default();
    let trained = Configuration {
        run: RunConfiguration {
            algorithm: configuration.run.algorithm,
            ..RunConfiguration::default()
        },
        evaluation: common.evaluation,
        checkpoint: common.checkpoint,
        learner: common.learner,
        actor: common.actor,
        security: common.security,
        telemetry: common.telemetry,
        ..configuration.clone()
    };
    trained.to_toml()
}

/// What a group is called: its folder, without seed and number where `rookery train` named it.
fn label(members: &[(&Path, Curve)]) -> String {
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
        let picture = gather(&runs, Axis::Steps, &[MEAN_RETURN.to_owned()]).unwrap();
        let labels: Vec<_> = picture.panels[0]
            .groups
            .iter()
            .map(|group| group.label.as_str())
            .collect();
        assert_eq!(labels, ["cartpole-ppo, 2 runs", "other"]);
        assert_eq!(picture.panels[0].threshold, Some(475.0));
        let last = picture.panels[0].groups[0].summary.points.last().unwrap();
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
            let text = draw::svg(&gather(&runs, axis, &[MEAN_RETURN.to_owned()]).unwrap()).unwrap();
            for part in ["<svg", "CartPole-v1", "a, 2 runs", unit, "475"] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
    }

    #[test]
    fn every_metric_has_a_panel_and_a_missing_one_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let runs = [run(parent.path(), "a", 1, 4, 100.0)];
        let metrics = ["evaluation_return", "update"].map(str::to_owned);
        let picture = gather(&runs, Axis::Steps, &metrics).unwrap();
        let points = |panel: usize| &picture.panels[panel].groups[0].curves[0].points;
        assert_eq!(points(0), &[(4096.0, 30.0)]);
        assert_eq!(points(1).len(), 3);
        assert_eq!(picture.panels[1].threshold, None);
        let error = gather(&runs, Axis::Steps, &["entropi".to_owned()]).unwrap_err();
        let message = "has no metric entropi; it has evaluation_episodes, evaluation_return, \
                       mean_return, update, version";
        assert!(error.to_string().contains(message), "{error}");
    }

    #[test]
    fn a_png_shows_what_the_svg_says() {
        let parent = tempfile::tempdir().unwrap();
        let runs = [run(parent.path(), "a", 1, 4, 100.0)];
        let picture = gather(&runs, Axis::Steps, &[MEAN_RETURN.to_owned()]).unwrap();
        let text = draw::svg(&picture).unwrap();
        let png = raster::png(&text).unwrap();
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        let wordless = raster::png(&text.replace("<text", "<g").replace("</text", "</g")).unwrap();
        assert_ne!(png, wordless, "letters leave marks");
    }

    #[test]
    fn another_kind_of_picture_is_refused() {
        let arguments = PlotArguments {
            runs: vec![PathBuf::from("runs/a")],
            x: Axis::Steps,
            metrics: vec![MEAN_RETURN.to_owned()],
            output: PathBuf::from("curve.jpg"),
        };
        assert!(plot(&arguments).unwrap_err().to_string().contains(".svg"));
    }
}
