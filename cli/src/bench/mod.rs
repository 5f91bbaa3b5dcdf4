//! `rookery bench`: what this machine reaches, whole and part by part, beside the figures that the
//! design was made with.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::Serialize;

mod ppo;
mod env;
mod policy;
mod transport;
mod update;
mod replay;
mod off_policy;

/// Measure throughput: the whole loop, or one of its parts
///
/// Measure on an otherwise idle machine. Reference figures are those of the two-core development
/// machine.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Clone, Debug, Subcommand)]
enum Bench {
    Ppo(ppo::PpoArguments),
    Env(env::EnvArguments),
    Policy(policy::PolicyArguments),
    Transport(transport::TransportArguments),
    Update(update::UpdateArguments),
    Replay(replay::ReplayArguments),
    /// Time DQN's gradient step beside libtorch's matrix products of the same shapes
    ///
    /// Double Q-learning with two hidden layers of 128 and minibatches of 64, on CartPole's spaces.
    Dqn(off_policy::OffPolicyArguments),
    /// Time SAC's gradient step beside libtorch's matrix products of the same shapes
    ///
    /// Policy, twin critics, temperature and targets, with two hidden layers of 256 and minibatches of
    /// 256, on Pendulum's spaces.
    Sac(off_policy::OffPolicyArguments),
}

/// What every benchmark of a part takes.
#[derive(Clone, Debug, Args)]
struct PartArguments {
    /// How long to measure, all settings together
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds)]
    seconds: Duration,
    /// Print one JSON object as the last line of the standard output
    #[arg(long)]
    json: bool,
}

/// Measures what was asked for.
///
/// # Errors
/// Where it cannot be measured.
pub(crate) fn bench(arguments: &BenchArguments) -> anyhow::Result<()> {
    match &arguments.bench {
        Bench::Ppo(arguments) => ppo::bench(arguments),
        Bench::Env(arguments) => env::bench(arguments),
        Bench::Policy(arguments) => policy::bench(arguments),
        Bench::Transport(arguments) => transport::bench(arguments),
        Bench::Update(arguments) => update::bench(arguments),
        Bench::Replay(arguments) => replay::bench(arguments),
        Bench::Dqn(arguments) => off_policy::bench("dqn", arguments),
        Bench::Sac(arguments) => off_policy::bench("sac", arguments),
    }
}

/// Reads a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is no number of seconds"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("expected more than 0 seconds".to_owned()),
    }
}

/// Does `work` for `time` and returns how many units a second it did; `work` returns its units.
/// A fifth of the time goes to warming up.
fn units_per_second(time: Duration, mut work: impl FnMut() -> usize) -> f64 {
    let warm_up = Instant::now();
    while warm_up.elapsed() < time / 5 {
        work();
    }
    let begin = Instant::now();
    let mut units = 0;
    loop {
        units += work();
        let elapsed = begin.elapsed();
        if elapsed >= time * 4 / 5 {
            return units as f64 / elapsed.as_secs_f64();
        }
    }
}

/// Prints the table for people and, where it was asked for, the object for programs.
fn print(table: &[Vec<String>], report: &impl Serialize, json: bool) -> anyhow::Result<()> {
    print!("{}", crate::format::table(table));
    if json {
        println!("{}", serde_json::to_string(report)?);
    }
    Ok(())
}

/// A row of a table.
fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Millions with as many decimals as they deserve.
fn millions(value: f64) -> String {
    format!("{:.2} M", value / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_positive_numbers() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "inf", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
