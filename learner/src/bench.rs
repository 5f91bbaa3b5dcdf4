//! Measures gradient steps and the replay store apart from everything else; `rookery bench update`
//! and `rookery bench replay` show the results.

use std::time::{Duration, Instant};

use anyhow::Result;
use rookery_common::configuration::Device as Wanted;
use rookery_common::policy::image::ImageEncoder;
use rookery_common::policy::{Encoder, EncoderKind, Head};
use rookery_common::spaces::Space;

use crate::algorithms::bench::{bench_dqn, bench_sac};
use crate::algorithms::ppo::bench::{Setting, Timings, bench_update};
use crate::device;
use crate::experience::replay::bench::{ReplaySetting, bench_replay};

/// Times updates with separate 64x64 tanh networks on CartPole's spaces at several minibatch sizes, and with the
/// shared Nature CNN of the Atari presets, for about `seconds` each, and prints one line of JSON with the median
/// microseconds of each phase.
///
/// # Errors
/// Where a setting makes no valid options.
pub fn update(seconds: f64) -> Result<()> {
    let device = device::choose(Wanted::Auto, 1)?;
    let plain = |minibatch_size| Setting {
        encoder: Encoder::Identity { width: 4 },
        head: Head::Categorical { num_actions: 2 },
        hidden: vec![64, 64],
        recurrent: None,
        shared_trunk: false,
        minibatch_size,
        num_minibatches: 8,
        epochs: 4,
        repetitions: 1,
        device,
    };
    let screen = Space::planes(4, 84, 84);
    let stages = EncoderKind::NatureCnn.stages(1);
    let images = Setting {
        encoder: Encoder::Image(ImageEncoder::new(&screen, stages)?),
        head: Head::Categorical { num_actions: 6 },
        hidden: vec![512],
        shared_trunk: true,
        num_minibatches: 4,
        epochs: 1,
        repetitions: 4,
        ..plain(256)
    };
    let settings = [64, 256, 1024, 16_384].map(|size| ("64x64", plain(size)));
    let mut rows = Vec::new();
    for (network, setting) in settings.into_iter().chain([("nature_cnn", images)]) {
        let since = Instant::now();
        let mut runs: Vec<Timings> = Vec::new();
        while runs.is_empty() || since.elapsed().as_secs_f64() < seconds {
            runs.push(bench_update(&setting)?);
        }
        let median = |phase: fn(&Timings) -> Duration| {
            let mut times: Vec<Duration> = runs.iter().map(phase).collect();
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64() * 1e6
        };
        rows.push(serde_json::json!({
            "network": network,
            "minibatch_size": setting.minibatch_size,
            "gradient_step_microseconds": median(|t| t.gradient_step),
            "gather_microseconds": median(|t| t.gather),
            "forward_microseconds": median(|t| t.forward),
            "loss_microseconds": median(|t| t.loss),
            "backward_microseconds": median(|t| t.backward),
            "optimiser_microseconds": median(|t| t.optimiser),
        }));
    }
    println!(
        "{}",
        serde_json::json!({ "device": format!("{device:?}"), "rows": rows })
    );
    Ok(())
}

/// Times a full replay store of `capacity` steps of CartPole's and Pendulum's size, uniform and
/// prioritised, for about `seconds` each, and prints one line of JSON.
///
/// # Errors
/// Where the store cannot be made.
pub fn replay(seconds: f64, capacity: usize) -> Result<()> {
    let mut rows = Vec::new();
    for (name, observation_width, episode_length, truncates) in [
        ("CartPole-v1", 4, 150, false),
        ("Pendulum-v1", 3, 200, true),
    ] {
        for prioritised in [false, true] {
            let figures = bench_replay(&ReplaySetting {
                observation_width,
                action_width: 1,
                episode_length,
                truncates,
                prioritised,
                capacity,
                time: Duration::from_secs_f64(seconds),
            })?;
            rows.push(serde_json::json!({
                "transitions_of": name,
                "prioritised": prioritised,
                "transitions": figures.num_items,
                "sample_microseconds": figures.sample.as_secs_f64() * 1e6,
                "update_priorities_microseconds": figures.update.as_secs_f64() * 1e6,
                "inserts_per_second": figures.inserts_per_second,
                "bytes_per_transition": figures.bytes_per_item,
                "snapshot_milliseconds": figures.snapshot.as_secs_f64() * 1e3,
                "insert_after_snapshot_milliseconds":
                    figures.insert_after_snapshot.as_secs_f64() * 1e3,
                "write_milliseconds": figures.write.as_secs_f64() * 1e3,
                "restore_milliseconds": figures.restore.as_secs_f64() * 1e3,
            }));
        }
    }
    println!("{}", serde_json::json!({ "rows": rows }));
    Ok(())
}

/// Times gradient steps of DQN or SAC with this many libtorch threads, for about `seconds`, and prints one
/// line of JSON.
///
/// # Errors
/// Where there is no such algorithm.
pub fn off_policy(algorithm: &str, threads: usize, seconds: f64) -> Result<()> {
    let time = Duration::from_secs_f64(seconds);
    let device = device::choose(Wanted::Auto, threads)?;
    let figures = match algorithm {
        "dqn" => bench_dqn(time, device)?,
        "sac" => bench_sac(time, device)?,
        other => anyhow::bail!("expected dqn or sac, got {other:?}"),
    };
    println!(
        "{}",
        serde_json::json!({
            "threads": threads,
            "device": format!("{device:?}"),
            "updates_per_second": 1.0 / figures.step.as_secs_f64(),
            "step_microseconds": figures.step.as_secs_f64() * 1e6,
            "products_microseconds": figures.products.as_secs_f64() * 1e6,
        })
    );
    Ok(())
}
