//! Steps for each second of processor time of the MuJoCo environments, natively and in Gymnasium, in one
//! thread each and in turns, so that both see the same machine and what else runs on it counts little:
//!
//! ```sh
//! ROOKERY_TEST_PYTHON=.venv/bin/python \
//!     cargo run --release -p rookery-actor --example mujoco_throughput [SECONDS] [ID ..]
//! ```
//!
//! Both sides draw uniform actions beforehand, begin the next episode where one ends and apply the
//! time limit; Gymnasium's side is `gymnasium.make` and a loop.

#[cfg(feature = "mujoco")]
fn main() -> anyhow::Result<()> {
    measure::run()
}

#[cfg(not(feature = "mujoco"))]
fn main() {
    eprintln!("built without MuJoCo; build with `--features mujoco`");
}

#[cfg(feature = "mujoco")]
mod measure {
    use std::collections::BTreeMap;
    use std::env;
    use std::fs;
    use std::process::Command;

    use anyhow::{Context, ensure};
    use rookery_actor::environments::{make, mujoco};
    use rookery_actor::shard::{FinalObservations, Shard, StepRow};
    use rookery_common::seeds::{Purpose, Random};
    use rookery_common::spaces::Space;

    /// Turns that each side takes; the median counts.
    const TURNS: usize = 3;

    /// Rows of actions that are cycled through.
    const ACTION_ROWS: usize = 256;

    /// Gymnasium's loop, which prints its steps a second.
    const GYMNASIUM: &str = "
import sys, time
import gymnasium
environment = gymnasium.make(sys.argv[1])
environment.action_space.seed(1)
actions = [environment.action_space.sample() for _ in range(256)]
environment.reset(seed=1)
steps, start = 0, time.thread_time()
while time.thread_time() - start < float(sys.argv[2]):
    for action in actions:
        _, _, terminated, truncated, _ = environment.step(action)
        if terminated or truncated:
            environment.reset()
    steps += len(actions)
print(steps / (time.thread_time() - start))
";

    pub(super) fn run() -> anyhow::Result<()> {
        let mut arguments = env::args().skip(1);
        let seconds: f64 = arguments.next().map_or(Ok(2.0), |text| text.parse())?;
        let chosen: Vec<String> = arguments.collect();
        let ids = mujoco::ids().filter(|id| chosen.is_empty() || chosen.iter().any(|c| c == id));
        println!("MuJoCo {}", mujoco::version()?);
        println!(
            "| environment | native x1 | native x8 | native x32 | Gymnasium | x8 to Gymnasium |"
        );
        println!("| --- | --- | --- | --- | --- | --- |");
        for id in ids {
            let mut sides: [Vec<f64>; 4] = Default::default();
            for _ in 0..TURNS {
                for (side, num_envs) in [1, 8, 32].into_iter().enumerate() {
                    sides[side].push(native(id, num_envs, seconds)?);
                }
                sides[3].push(gymnasium(id, seconds)?);
            }
            let [one, eight, more, gymnasium] = sides.map(median);
            println!(
                "| {id} | {one:.0} | {eight:.0} | {more:.0} | {gymnasium:.0} | {:.2} |",
                eight / gymnasium
            );
        }
        Ok(())
    }

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    fn gymnasium(id: &str, seconds: f64) -> anyhow::Result<f64> {
        let python = env::var_os("ROOKERY_TEST_PYTHON")
            .context("ROOKERY_TEST_PYTHON must name a Python with gymnasium[mujoco]")?;
        let output = Command::new(python)
            .args(["-c", GYMNASIUM, id, &seconds.to_string()])
            .current_dir(env::temp_dir())
            .output()?;
        ensure!(
            output.status.success(),
            "Gymnasium failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    }

    fn native(id: &str, num_envs: usize, seconds: f64) -> anyhow::Result<f64> {
        let environment = make(id, &BTreeMap::new(), num_envs)?;
        let mut shard = Shard::new(environment, 0, 1, Purpose::Episode)?;
        let Space::Box { low, high, .. } = shard.spec().action.clone() else {
            anyhow::bail!("`{id}` has no continuous actions");
        };
        let mut random = Random::derive(1, Purpose::Action, 0, 0);
        let bounds = || low.iter().zip(&high);
        let rows: Vec<f32> = (0..ACTION_ROWS * num_envs)
            .flat_map(|_| bounds())
            .map(|(low, high)| low + (high - low) * random.unit_f32())
            .collect();
        let mut rewards = vec![0.0; num_envs];
        let mut terminated = vec![0; num_envs];
        let mut truncated = vec![0; num_envs];
        let mut next_observations = vec![0.0; num_envs * shard.spec().observation.width()];
        let mut finals = FinalObservations::default();
        let mut episodes = Vec::new();
        let (mut steps, start) = (0, processor_seconds()?);
        while processor_seconds()? - start < seconds {
            for actions in rows.chunks_exact(num_envs * low.len()) {
                shard.step(
                    actions,
                    StepRow {
                        rewards: &mut rewards,
                        terminated: &mut terminated,
                        truncated: &mut truncated,
                        next_observations: &mut next_observations,
                        finals: &mut finals,
                        episodes: &mut episodes,
                    },
                )?;
                finals.envs.clear();
                finals.observations.clear();
                episodes.clear();
                steps += num_envs;
            }
        }
        Ok(steps as f64 / (processor_seconds()? - start))
    }

    /// What this thread has spent of a processor.
    fn processor_seconds() -> anyhow::Result<f64> {
        let schedule = fs::read_to_string("/proc/thread-self/schedstat")?;
        let nanoseconds = schedule.split(' ').next().context("no time in schedstat")?;
        Ok(nanoseconds.parse::<f64>()? / 1e9)
    }
}
