//! Environment steps a second through a host, and in loops of Python's own.
//!
//! `cargo run --release -p rookery-actor --example hosted_throughput -- .venv/bin/python [SECONDS]`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use rookery_actor::environments::hosted::{HostPool, bench};
use rookery_common::configuration::HostConfiguration;

/// Id, whether scalar instances are asked for, instances.
const CASES: [(&str, bool, usize); 6] = [
    ("gymnasium:CartPole-v1", true, 32),
    ("gymnasium:CartPole-v1", false, 32),
    ("ALE/Pong-v5", false, 8),
    ("ALE/Pong-v5", false, 32),
    ("gymnasium:HalfCheetah-v5", false, 8),
    ("LunarLander-v3", false, 8),
];
const ROUNDS: usize = 5;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let python = arguments
        .next()
        .context("name an interpreter that has Gymnasium")?;
    let seconds: f64 = arguments.next().map_or(Ok(2.0), |text| text.parse())?;
    let pool = HostPool::new(HostConfiguration {
        python: PathBuf::from(python),
        ..HostConfiguration::default()
    });
    println!("steps/s              n    hosted      bare  unseeded   hosted/bare  /unseeded");
    for (id, scalar, num_envs) in CASES {
        let mode = ("vectorization_mode".to_owned(), "sync".to_owned());
        let keywords: BTreeMap<String, String> = scalar.then_some(mode).into_iter().collect();
        let time = Duration::from_secs_f64(seconds);
        let rates = bench::compare(&pool, id, &keywords, num_envs, ROUNDS, time)?;
        println!(
            "{:<18}{:>4}{:>10.0}{:>10.0}{:>10.0}{:>13.1}%{:>10.1}%{}",
            id.trim_start_matches("gymnasium:"),
            num_envs,
            rates.hosted,
            rates.bare,
            rates.bare_unseeded,
            100.0 * rates.hosted / rates.bare,
            100.0 * rates.hosted / rates.bare_unseeded,
            if scalar { "  scalar" } else { "" },
        );
    }
    Ok(())
}
