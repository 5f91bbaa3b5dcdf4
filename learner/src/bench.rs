//! Measures gradient steps apart from everything else; `rookery bench update` shows the result.

use std::time::{Duration, Instant};

use anyhow::Result;
use rookery_common::configuration::Device as Wanted;
use rookery_common::policy::Head;

use crate::algorithms::ppo::bench::{Setting, Timings, bench_update};
use crate::device;

/// Times updates with separate 64x64 tanh networks on CartPole's spaces, for about `seconds` at
/// each minibatch size, and prints one line of JSON with the median microseconds of each phase.
///
/// # Errors
/// Where a setting makes no valid options.
pub fn update(seconds: f64) -> Result<()> {
    let device = device::choose(Wanted::Auto, 1)?;
    let mut rows = Vec::new();
    for minibatch_size in [64, 256, 1024, 16_384] {
        let setting = Setting {
            observation_width: 4,
            head: Head::Categorical { num_actions: 2 },
            hidden: vec![64, 64],
            minibatch_size,
            num_minibatches: 8,
            epochs: 4,
            repetitions: 1,
            device,
        };
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
            "minibatch_size": minibatch_size,
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
