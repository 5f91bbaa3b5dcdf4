//! Times PPO updates and their phases, one row a minibatch size.
//!
//! `cargo bench -p rookery-learner --bench update [-- <threads>]`

use std::time::Duration;

use rookery_common::policy::spec::Head;
use rookery_learner::algorithms::ppo::bench::{Setting, bench_update};
use tch::Device;

fn main() -> anyhow::Result<()> {
    // `cargo test --all-targets` runs this program too, without the argument that `cargo bench` adds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let threads = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    tch::set_num_threads(threads.unwrap_or(1));
    let device = Device::cuda_if_available();
    println!(
        "{device:?}, {} threads; microseconds",
        tch::get_num_threads()
    );
    let heads = [
        (
            "categorical(2), 4 inputs",
            4,
            Head::Categorical { num_actions: 2 },
        ),
        (
            "gaussian(6), 17 inputs",
            17,
            Head::DiagonalGaussian { dimension: 6 },
        ),
    ];
    for (name, observation_width, head) in heads {
        println!("\n{name}, separate 64x64");
        println!(
            "{:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "minibatch", "step", "columns", "gather", "forward", "loss", "backward", "optimiser"
        );
        for (minibatch_size, repetitions) in [(64, 40), (256, 40), (1024, 12), (16_384, 2)] {
            let timings = bench_update(&Setting {
                observation_width,
                head: head.clone(),
                hidden: vec![64, 64],
                minibatch_size,
                num_minibatches: 8,
                epochs: 4,
                repetitions,
                device,
            })?;
            let micros = |time: Duration| time.as_secs_f64() * 1e6;
            println!(
                "{minibatch_size:>9} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
                micros(timings.gradient_step),
                micros(timings.columns),
                micros(timings.gather),
                micros(timings.forward),
                micros(timings.loss),
                micros(timings.backward),
                micros(timings.optimiser),
            );
        }
    }
    Ok(())
}
