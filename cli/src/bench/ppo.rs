//! `rookery bench ppo`: the whole loop with real processes over gRPC.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rookery_common::configuration::{Configuration, Layers};
use rookery_common::exit::Exit;
use rookery_proto::v1::StatusReply;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::{print, row, seconds};
use crate::children::Programs;
use crate::cluster::{Cluster, ClusterPlan};
use crate::failure::Failure;
use crate::format;
use crate::run_directory::RunDirectory;
use crate::source::Overrides;

/// What is not measured, from the first update on: connections, caches and the first episodes.
const WARM_UP: Duration = Duration::from_secs(2);
/// Time in which the first update must have come.
const START_PATIENCE: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The actors' metric, by stage.
const ACTOR_STAGES: &str = "rookery_actor_stage_seconds_total";
/// A side that waits for less than this share of its time is the bottleneck.
const BUSY_BELOW: f64 = 0.15;

/// Train PPO on CartPole for a while and say where the time goes
///
/// A learner and actors run as processes of their own and talk over gRPC, as in `rookery train`.
/// The first seconds are not measured.
#[derive(Clone, Debug, Args)]
pub(super) struct PpoArguments {
    /// 1,024 environments, 32 steps a round, 2 epochs, minibatches of 8,192, a shared trunk
    #[arg(long, conflicts_with = "huge")]
    large: bool,
    /// 4,096 environments, 32 steps a round, 1 epoch, minibatches of 16,384, a shared trunk
    #[arg(long)]
    huge: bool,
    /// How long to measure
    #[arg(long, value_name = "S", default_value = "30", value_parser = seconds)]
    seconds: Duration,
    /// Actor processes
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    actors: u32,
    /// Collector threads of each actor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// Rounds by which collecting runs ahead of learning [default: 1]
    #[arg(long, value_name = "L")]
    lag: Option<u32>,
    #[command(flatten)]
    overrides: Overrides,
    /// Print one JSON object as the last line of the standard output
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
struct Report {
    env_steps_per_second: f64,
    env_steps: u64,
    updates: u64,
    seconds: f64,
    /// Over the last 100 training episodes, at the end.
    mean_return: Option<f64>,
    setting: &'static str,
    num_envs: usize,
    unroll_length: usize,
    lag: u64,
    actors: u32,
    threads: usize,
    /// Shares of the compute thread's time.
    learner: BTreeMap<String, f64>,
    /// Shares of the collector threads' time, all together.
    actor: BTreeMap<String, f64>,
    bottleneck: String,
}

/// A moment of a run.
#[derive(Clone, Debug)]
struct Moment {
    at: Instant,
    status: StatusReply,
    actor_seconds: BTreeMap<String, f64>,
}

pub(super) fn bench(arguments: &PpoArguments) -> anyhow::Result<()> {
    let programs = Programs::locate()?;
    let (setting, configuration) = configuration(arguments)?;
    let folder = tempfile::Builder::new()
        .prefix("rookery-bench-")
        .tempdir()?;
    let run = RunDirectory::create(folder.path())?;
    run.write_configuration(&configuration.to_toml())?;
    let ports = free_addresses(arguments.actors)?;
    let actors = actor_files(&run, &configuration, &ports)?;
    let plan = ClusterPlan {
        run: &run,
        configuration: &configuration,
        resume: false,
        actors,
        evaluator: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start an event loop")?;
    let measured = runtime.block_on(async {
        let mut cluster = Cluster::start(&programs, &plan)?;
        let measured = measure(&mut cluster, &ports, arguments.seconds).await;
        cluster.stop_learner().await?;
        cluster.stop_workers().await?;
        measured
    });
    let (begin, end) = measured?;
    let report = report(setting, &configuration, arguments.actors, &begin, &end);
    print(&table(&report), &report, arguments.json)
}

/// The setting's name and configuration.
fn configuration(arguments: &PpoArguments) -> anyhow::Result<(&'static str, Configuration)> {
    let (setting, text) = if arguments.huge {
        ("huge", include_str!("huge.toml"))
    } else if arguments.large {
        ("large", include_str!("large.toml"))
    } else {
        ("default", include_str!("default.toml"))
    };
    let mut layers = Layers::new().text(format!("{setting} setting"), text);
    layers = arguments.overrides.lay(layers);
    if let Some(threads) = arguments.threads {
        layers = layers.value("actor.threads", i64::from(threads));
    }
    if let Some(lag) = arguments.lag {
        layers = layers.value("schedule.lag", i64::from(lag));
    }
    Ok((setting, layers.build()?))
}

/// An address for the metrics of each actor, free a moment ago.
fn free_addresses(count: u32) -> anyhow::Result<Vec<SocketAddr>> {
    // All are held until the last is found, so that they differ.
    let listeners = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<Vec<_>, _>>()
        .context("there is no free port for metrics")?;
    listeners
        .iter()
        .map(|listener| listener.local_addr().context("a port has no address"))
        .collect()
}

/// Writes a configuration for each actor, with metrics on a port of its own.
fn actor_files(
    run: &RunDirectory,
    configuration: &Configuration,
    ports: &[SocketAddr],
) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let mut configuration = configuration.clone();
        configuration.actor.metrics_listen = Some(*port);
        let file = run.path().join(format!("actor-{index}.toml"));
        std::fs::write(&file, configuration.to_toml())
            .with_context(|| format!("cannot write {}", file.display()))?;
        files.push(file);
    }
    Ok(files)
}

/// Waits until training is under way, then measures for `time`.
async fn measure(
    cluster: &mut Cluster,
    ports: &[SocketAddr],
    time: Duration,
) -> anyhow::Result<(Moment, Moment)> {
    let patience = Instant::now() + START_PATIENCE;
    loop {
        let status = watch(cluster, Duration::ZERO).await?;
        if status.is_some_and(|status| status.updates > 0) {
            break;
        }
        anyhow::ensure!(
            Instant::now() < patience,
            "no update came in {START_PATIENCE:?}"
        );
    }
    watch(cluster, WARM_UP).await?;
    let begin = moment(cluster, ports).await?;
    watch(cluster, time).await?;
    let end = moment(cluster, ports).await?;
    Ok((begin, end))
}

/// Lets `time` pass while all processes are well, and returns where training stands then.
async fn watch(cluster: &mut Cluster, time: Duration) -> anyhow::Result<Option<StatusReply>> {
    tokio::select! {
        ended = cluster.learner_ended() => {
            let ended = ended?;
            return Err(cluster.learner().failure(ended).into());
        }
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("cannot listen for signals")?;
            return Err(Failure::new(Exit::TryAgain, "interrupted before anything was measured").into());
        }
        () = sleep(time.max(POLL_INTERVAL)) => {}
    }
    // An actor that died in between has spoilt the measurement.
    let notices = cluster.revive()?;
    anyhow::ensure!(notices.is_empty(), "{}", notices.join("; "));
    Ok(cluster.status().await)
}

async fn moment(cluster: &mut Cluster, ports: &[SocketAddr]) -> anyhow::Result<Moment> {
    let status = cluster
        .status()
        .await
        .context("the learner does not answer")?;
    let mut actor_seconds = BTreeMap::new();
    for port in ports {
        let text = scrape(*port)
            .await
            .with_context(|| format!("cannot read an actor's metrics at {port}"))?;
        for (stage, seconds) in stages(&text) {
            *actor_seconds.entry(stage).or_insert(0.0) += seconds;
        }
    }
    Ok(Moment {
        at: Instant::now(),
        status,
        actor_seconds,
    })
}

/// Reads a Prometheus endpoint.
async fn scrape(address: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the answer is no HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    anyhow::ensure!(status.contains(" 200"), "the answer is {status:?}");
    Ok(body.to_owned())
}

/// Seconds by stage in the text of an actor's metrics.
fn stages(metrics: &str) -> BTreeMap<String, f64> {
    metrics
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(ACTOR_STAGES)?.strip_prefix("{")?;
            let (labels, value) = rest.rsplit_once("} ")?;
            let stage = labels
                .split(',')
                .find_map(|label| label.strip_prefix("stage=\"")?.strip_suffix('"'))?;
            Some((stage.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// How the time between two moments was spent, as shares of what was booked.
fn shares(begin: &BTreeMap<String, f64>, end: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let spent: BTreeMap<String, f64> = end
        .iter()
        .map(|(stage, seconds)| {
            (
                stage.clone(),
                (seconds - begin.get(stage).unwrap_or(&0.0)).max(0.0),
            )
        })
        .collect();
    let total: f64 = spent.values().sum();
    spent
        .into_iter()
        .map(|(stage, seconds)| (stage, seconds / total.max(1e-9)))
        .collect()
}

fn report(
    setting: &'static str,
    configuration: &Configuration,
    actors: u32,
    begin: &Moment,
    end: &Moment,
) -> Report {
    let seconds_of = |moment: &Moment| {
        moment
            .status
            .learner_seconds
            .clone()
            .into_iter()
            .collect::<BTreeMap<_, _>>()
    };
    let learner = shares(&seconds_of(begin), &seconds_of(end));
    let actor = shares(&begin.actor_seconds, &end.actor_seconds);
    // Steps and seconds of one snapshot belong together; the clock here does not know when it
    // was taken.
    let training = end.status.wall_seconds - begin.status.wall_seconds;
    let seconds = if training > 0.0 {
        training
    } else {
        (end.at - begin.at).as_secs_f64()
    };
    let env_steps = end.status.env_steps - begin.status.env_steps;
    let share = |shares: &BTreeMap<String, f64>, stage| shares.get(stage).copied().unwrap_or(0.0);
    let bottleneck = bottleneck(
        share(&learner, "wait"),
        share(&actor, "wait") + share(&actor, "send"),
        configuration.schedule.lag,
    );
    Report {
        env_steps_per_second: env_steps as f64 / seconds,
        env_steps,
        updates: end.status.updates - begin.status.updates,
        seconds,
        mean_return: end.status.mean_return,
        setting,
        num_envs: configuration.environment.num_envs,
        unroll_length: configuration.rollout.unroll_length,
        lag: configuration.schedule.lag,
        actors,
        threads: configuration.actor.threads,
        learner,
        actor,
        bottleneck,
    }
}

/// Which side holds the other up, in one sentence.
fn bottleneck(learner_waits: f64, actors_wait: f64, lag: u64) -> String {
    let (learner, actors) = (format::percent(learner_waits), format::percent(actors_wait));
    if lag == 0 {
        let slower = if learner_waits < actors_wait {
            "the learner"
        } else {
            "the actors"
        };
        return format!(
            "With lag 0 both sides take turns; {slower} take{s} the longer one (the learner waits \
             {learner} of its time, the actors {actors}).",
            s = if slower == "the learner" { "s" } else { "" },
        );
    }
    match (learner_waits < BUSY_BELOW, actors_wait < BUSY_BELOW) {
        (true, true) => format!(
            "Both sides are busy (the learner waits {learner} of its time, the actors {actors}): \
             more cores would help."
        ),
        (true, false) => format!(
            "The learner is the bottleneck: it waits {learner} of its time, the actors {actors}."
        ),
        (false, true) => format!(
            "The actors are the bottleneck: the learner waits {learner} of its time for them, they \
             wait {actors}."
        ),
        (false, false) => format!(
            "Neither side is busy (the learner waits {learner} of its time, the actors {actors}): \
             the rounds are too short for what passing them on costs."
        ),
    }
}

fn table(report: &Report) -> Vec<Vec<String>> {
    let mut table = vec![
        row([
            "setting",
            &format!(
                "{}: {} environments, {} steps a round, lag {}; {} actors of {} threads",
                report.setting,
                format::grouped(report.num_envs as u64),
                format::grouped((report.num_envs * report.unroll_length) as u64),
                report.lag,
                report.actors,
                report.threads,
            ),
        ]),
        row([
            "throughput",
            &format!("{} env steps/s", format::rate(report.env_steps_per_second)),
        ]),
        row([
            "measured",
            &format!(
                "{} steps, {} updates in {}",
                format::grouped(report.env_steps),
                format::grouped(report.updates),
                format::duration(report.seconds)
            ),
        ]),
        row(["mean return", &format::optional_return(report.mean_return)]),
        row(["learner", &split(&report.learner)]),
        row(["actors", &split(&report.actor)]),
    ];
    table.push(row(["bottleneck", &report.bottleneck]));
    table
}

/// Shares of time, the largest first.
fn split(shares: &BTreeMap<String, f64>) -> String {
    let mut shares: Vec<_> = shares.iter().collect();
    shares.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let parts: Vec<String> = shares
        .iter()
        .map(|(stage, share)| format!("{stage} {}", format::percent(**share)))
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: PpoArguments,
    }

    fn parse(line: &[&str]) -> PpoArguments {
        Line::try_parse_from(std::iter::once(&"ppo").chain(line))
            .unwrap()
            .arguments
    }

    #[test]
    fn the_settings_are_those_that_others_are_measured_with() {
        for (line, num_envs, rows, epochs, minibatch_size, shared_trunk) in [
            (vec![], 8, 2048, 4, 256, false),
            (vec!["--large"], 1024, 32_768, 2, 8192, true),
            (vec!["--huge"], 4096, 131_072, 1, 16_384, true),
        ] {
            let (_, configuration) = configuration(&parse(&line)).unwrap();
            assert_eq!(configuration.environment.id, "CartPole-v1");
            assert_eq!(configuration.environment.num_envs, num_envs);
            assert_eq!(configuration.rows_per_round(), rows);
            assert_eq!(configuration.ppo.epochs, epochs);
            assert_eq!(configuration.ppo.minibatch_size, minibatch_size);
            assert_eq!(configuration.policy.shared_trunk, shared_trunk);
            assert_eq!(configuration.policy.hidden, [64, 64]);
        }
    }

    #[test]
    fn flags_win_over_the_setting() {
        let arguments = parse(&[
            "--large",
            "--lag",
            "0",
            "--threads",
            "2",
            "--set",
            "ppo.epochs=7",
        ]);
        let (_, configuration) = configuration(&arguments).unwrap();
        assert_eq!(configuration.schedule.lag, 0);
        assert_eq!(configuration.actor.threads, 2);
        assert_eq!(configuration.ppo.epochs, 7);
    }

    #[test]
    fn stages_are_read_from_prometheus_text() {
        let text = "# TYPE rookery_actor_stage_seconds_total gauge\n\
                    rookery_actor_stage_seconds_total{stage=\"forward\"} 1.5\n\
                    rookery_actor_stage_seconds_total{role=\"collector\",stage=\"wait\"} 0.25\n\
                    rookery_actor_env_steps_total 12\n";
        let expected = [("forward".to_owned(), 1.5), ("wait".to_owned(), 0.25)];
        assert_eq!(stages(text), expected.into());
    }

    #[test]
    fn shares_are_of_the_time_between() {
        let times = |wait, update| {
            BTreeMap::from([("wait".to_owned(), wait), ("update".to_owned(), update)])
        };
        assert_eq!(
            shares(&times(1.0, 10.0), &times(2.0, 13.0)),
            times(0.25, 0.75)
        );
    }

    #[test]
    fn the_side_that_does_not_wait_is_the_bottleneck() {
        for (learner, actors, lag, beginning) in [
            (0.01, 0.6, 1, "The learner is the bottleneck"),
            (0.6, 0.01, 1, "The actors are the bottleneck"),
            (0.05, 0.05, 1, "Both sides are busy"),
            (0.5, 0.5, 1, "Neither side is busy"),
            (
                0.3,
                0.7,
                0,
                "With lag 0 both sides take turns; the learner takes",
            ),
            (
                0.7,
                0.3,
                0,
                "With lag 0 both sides take turns; the actors take the",
            ),
        ] {
            let sentence = bottleneck(learner, actors, lag);
            assert!(sentence.starts_with(beginning), "{sentence}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_is_read_and_its_errors_are_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answer in [
                "HTTP/1.0 200 OK\r\n\r\nmetric 1\n",
                "HTTP/1.0 404 Not Found\r\n\r\n",
            ] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 256];
                let length = stream.read(&mut request).await.unwrap();
                assert!(request[..length].starts_with(b"GET /metrics "));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        assert_eq!(scrape(address).await.unwrap(), "metric 1\n");
        assert!(
            scrape(address)
                .await
                .unwrap_err()
                .to_string()
                .contains("404")
        );
    }
}
