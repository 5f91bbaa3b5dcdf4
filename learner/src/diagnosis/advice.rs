//! One sentence about what limits a run.

use rookery_common::configuration::Schedule;

use super::bottleneck::{Limit, RunShape, Sample, most_actors};

/// What to do about a stage that takes the share `busy` of its side's time.
pub(super) fn advice(
    stage: Limit,
    busy: f64,
    suggested: Option<u32>,
    now: &Sample,
    run: &RunShape,
) -> String {
    let share = format!("{:.0} %", 100.0 * busy);
    let threads = "learner.threads and learner.device say what the learner may use";
    match stage {
        Limit::Environment => format!(
            "collectors step environments for {share} of their time: {}",
            more_actors(suggested, now, run)
        ),
        Limit::Forward => format!(
            "collectors choose actions for {share} of their time: {}, or lower policy.hidden",
            more_actors(suggested, now, run)
        ),
        Limit::Wire => format!(
            "for {share} of the time neither the learner nor the collectors work, while unrolls and \
             parameters are on their way or one collector is late: {}",
            match run.schedule {
                Schedule::Synchronous { lag: 0 } =>
                    "bring actors nearer, raise rollout.unroll_length, or have collecting overlap \
                     with learning by schedule.lag = 1",
                Schedule::Synchronous { .. } | Schedule::Asynchronous { .. } =>
                    "bring actors nearer, raise rollout.unroll_length, or add actors",
            }
        ),
        Limit::Queue => format!(
            "for {share} of the time actors wait for room in the queue while the learner has too \
             little to learn from: raise schedule.max_policy_lag or schedule.max_queue_bytes"
        ),
        Limit::Batch => format!(
            "the learner orders, stores and samples for {share} of its time: give it a faster core, \
             or raise rollout.unroll_length{}",
            fewer_actors(suggested, now)
        ),
        Limit::Copy => format!(
            "the learner brings batches to its device for {share} of its time: a small network is \
             faster with learner.device = \"cpu\"{}",
            fewer_actors(suggested, now)
        ),
        Limit::Update => format!(
            "the learner takes gradient steps for {share} of its time: {threads}{}",
            fewer_actors(suggested, now)
        ),
        Limit::Publish => format!(
            "the learner publishes, keeps its books and snapshots its state for {share} of its time: \
             raise rollout.unroll_length or checkpoint.every{}",
            fewer_actors(suggested, now)
        ),
    }
}

fn more_actors(suggested: Option<u32>, now: &Sample, run: &RunShape) -> String {
    let most = most_actors(now, run);
    match suggested {
        Some(suggested) if suggested as usize > now.actors => format!(
            "{suggested} actors of this kind, where {} are, would collect as fast as the learner learns",
            now.actors
        ),
        Some(_) if now.actors >= most => format!(
            "the {} shards of the run keep no more than {most} actors like these busy: for more, \
             raise environment.num_envs or lower rollout.envs_per_shard",
            run.shards
        ),
        _ => "the actors nearly keep up with the learner".to_owned(),
    }
}

/// What to add where fewer actors would do.
fn fewer_actors(suggested: Option<u32>, now: &Sample) -> String {
    match suggested {
        Some(suggested) if (suggested as usize) < now.actors => format!(
            "; {suggested} of the {} actors would keep up with it",
            now.actors
        ),
        _ => String::new(),
    }
}
