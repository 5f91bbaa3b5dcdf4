use super::*;

const TAKES_TURNS: RunShape = RunShape {
    schedule: Schedule::Synchronous { lag: 0 },
    shards: 16,
};
const OVERLAPS: RunShape = RunShape {
    schedule: Schedule::Synchronous { lag: 1 },
    shards: 16,
};
const ASYNCHRONOUS: RunShape = RunShape {
    schedule: Schedule::Asynchronous {
        max_policy_lag: 8,
        unrolls_per_update: 4,
        max_queue_bytes: 1 << 20,
    },
    shards: 16,
};

/// The learner's seconds: wait, batch, copy, update, publish, record, checkpoint.
type Learner = [f64; 7];
/// The collectors': environment, forward, send, wait.
type Collectors = [f64; 4];

fn sample(at: f64, learner: Learner, collectors: Collectors) -> Sample {
    let [environment, forward, send, wait] = collectors;
    Sample {
        at,
        learner,
        collectors: CollectorSeconds {
            environment,
            forward,
            send,
            wait,
        },
        queue_wait: 0.0,
        actors: 2,
        threads: 4,
    }
}

/// What ten seconds come to.
fn judged(learner: Learner, collectors: Collectors, run: &RunShape) -> Verdict {
    let before = sample(0.0, [0.0; 7], [0.0; 4]);
    verdict(&before, &sample(10.0, learner, collectors), run).unwrap()
}

fn close(got: f64, expected: f64) -> bool {
    (got - expected).abs() < 1e-9
}

#[test]
fn a_slow_environment_limits_and_more_actors_help() {
    let got = judged(
        [8.0, 0.1, 0.0, 1.8, 0.1, 0.0, 0.0],
        [28.0, 4.0, 0.0, 8.0],
        &TAKES_TURNS,
    );
    assert_eq!(got.stage, Limit::Environment);
    assert!(close(got.busy_ratio, 0.7), "{got:?}");
    // 2 actors * 0.8 / 0.2.
    assert_eq!(got.suggested_actors, Some(8));
    assert!(
        got.advice.contains("8 actors of this kind, where 2 are"),
        "{got:?}"
    );
}

#[test]
fn no_more_actors_are_suggested_than_have_shards() {
    let run = RunShape {
        shards: 4,
        ..OVERLAPS
    };
    let got = judged(
        [9.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        [39.0, 1.0, 0.0, 0.0],
        &run,
    );
    assert_eq!(got.stage, Limit::Environment);
    assert_eq!(got.suggested_actors, Some(2));
    assert!(got.advice.contains("environment.num_envs"), "{got:?}");
}

#[test]
fn a_large_policy_limits_in_the_forward_pass() {
    let got = judged(
        [7.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0],
        [8.0, 24.0, 0.0, 8.0],
        &OVERLAPS,
    );
    assert_eq!(got.stage, Limit::Forward);
    assert!(close(got.busy_ratio, 0.6), "{got:?}");
}

#[test]
fn each_stage_of_the_learner_can_limit() {
    for (learner, expected, busy) in [
        ([1.0, 6.0, 1.0, 1.0, 1.0, 0.0, 0.0], Limit::Batch, 0.6),
        ([1.0, 1.0, 6.0, 1.0, 1.0, 0.0, 0.0], Limit::Copy, 0.6),
        ([1.0, 1.0, 1.0, 6.0, 1.0, 0.0, 0.0], Limit::Update, 0.6),
        ([1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0], Limit::Publish, 0.6),
    ] {
        for run in [TAKES_TURNS, OVERLAPS, ASYNCHRONOUS] {
            let got = judged(learner, [3.0, 1.0, 4.0, 32.0], &run);
            assert_eq!(got.stage, expected);
            assert!(close(got.busy_ratio, busy), "{got:?}");
        }
    }
}

#[test]
fn where_the_sides_overlap_fewer_actors_would_do_and_where_they_take_turns_all_are_needed() {
    let learner = [0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0];
    let collectors = [10.0, 2.0, 0.0, 28.0];
    let overlaps = judged(learner, collectors, &OVERLAPS);
    assert_eq!(overlaps.suggested_actors, Some(1));
    assert!(overlaps.advice.contains("1 of the 2"), "{overlaps:?}");
    let takes_turns = judged(learner, collectors, &TAKES_TURNS);
    assert_eq!(takes_turns.suggested_actors, Some(2));
}

#[test]
fn where_neither_side_works_it_is_the_wire() {
    let learner = [9.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    let collectors = [6.0, 2.0, 2.0, 30.0];
    for (run, idle) in [(TAKES_TURNS, 0.7), (OVERLAPS, 0.8)] {
        let got = judged(learner, collectors, &run);
        assert_eq!(got.stage, Limit::Wire);
        assert!(close(got.busy_ratio, idle), "{got:?}");
        assert_eq!(got.suggested_actors, None);
    }
}

#[test]
fn where_the_learner_has_nothing_because_the_queue_holds_too_little_it_is_the_queue() {
    let before = sample(0.0, [0.0; 7], [0.0; 4]);
    let mut after = sample(
        10.0,
        [8.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0],
        [6.0, 2.0, 2.0, 30.0],
    );
    after.queue_wait = 12.0;
    let got = verdict(&before, &after, &ASYNCHRONOUS).unwrap();
    assert_eq!(got.stage, Limit::Queue);
    assert!(got.advice.contains("schedule.max_policy_lag"), "{got:?}");
}

#[test]
fn threads_that_have_no_shard_do_not_make_the_others_look_idle() {
    let before = sample(0.0, [0.0; 7], [0.0; 4]);
    let mut after = sample(
        10.0,
        [8.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0],
        [70.0, 10.0, 0.0, 80.0],
    );
    (after.actors, after.threads) = (4, 16);
    let run = RunShape {
        shards: 8,
        ..OVERLAPS
    };
    let got = verdict(&before, &after, &run).unwrap();
    assert_eq!(got.stage, Limit::Environment);
    assert!(close(got.busy_ratio, 0.875), "{got:?}");
}

#[test]
fn actors_that_say_nothing_leave_the_learners_half_of_the_verdict() {
    let silent = [0.0; 4];
    let busy = judged([2.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0], silent, &OVERLAPS);
    assert_eq!(busy.stage, Limit::Update);
    assert_eq!(busy.suggested_actors, None);
    let before = sample(0.0, [0.0; 7], silent);
    let waits = sample(10.0, [8.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0], silent);
    assert_eq!(verdict(&before, &waits, &OVERLAPS), None);
}

/// A run of `seconds` in which the learner works or waits, from where `from` stands.
fn goes_on(
    watch: &mut BottleneckWatch,
    from: &mut Sample,
    seconds: u32,
    learner_works: bool,
) -> Vec<(f64, Limit)> {
    let mut said = Vec::new();
    for _ in 0..seconds {
        from.at += 1.0;
        if learner_works {
            from.learner[Stage::Update as usize] += 1.0;
            from.collectors.wait += 4.0;
        } else {
            from.learner[Stage::Wait as usize] += 1.0;
            from.collectors.environment += 4.0;
        }
        if let Some(verdict) = watch.observe(*from) {
            said.push((from.at, verdict.stage));
        }
    }
    said
}

#[test]
fn the_first_verdict_is_there_after_a_second_and_said_once_it_has_stood() {
    let mut watch = BottleneckWatch::new(OVERLAPS);
    let mut now = sample(0.0, [0.0; 7], [0.0; 4]);
    assert!(watch.observe(now).is_none());
    assert_eq!(watch.verdict(), None);
    assert_eq!(goes_on(&mut watch, &mut now, 1, true), []);
    assert_eq!(watch.verdict().unwrap().stage, Limit::Update);
    let said = goes_on(&mut watch, &mut now, 60, true);
    assert_eq!(said, [(6.0, Limit::Update)]);
}

#[test]
fn a_verdict_changes_once_another_stage_has_been_ahead_for_a_while_and_does_not_flap() {
    let mut watch = BottleneckWatch::new(OVERLAPS);
    let mut now = sample(0.0, [0.0; 7], [0.0; 4]);
    watch.observe(now);
    goes_on(&mut watch, &mut now, 40, true);
    // Half of the window is gone after 10 s; then the environments are ahead, and 5 s later they are
    // the verdict.
    let said = goes_on(&mut watch, &mut now, 40, false);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].1, Limit::Environment);
    assert!((54.0..=57.0).contains(&said[0].0), "{said:?}");
    // Turns of two seconds each leave it as it is.
    for _ in 0..20 {
        assert_eq!(goes_on(&mut watch, &mut now, 2, true), []);
        assert_eq!(goes_on(&mut watch, &mut now, 2, false), []);
    }
    assert_eq!(watch.verdict().unwrap().stage, Limit::Environment);
}

#[test]
fn a_fleet_that_has_gone_takes_the_verdict_with_it() {
    let mut watch = BottleneckWatch::new(OVERLAPS);
    let mut now = sample(0.0, [0.0; 7], [0.0; 4]);
    watch.observe(now);
    goes_on(&mut watch, &mut now, 10, true);
    assert!(watch.verdict().is_some());
    now.actors = 0;
    now.at += 1.0;
    assert!(watch.observe(now).is_none());
    assert_eq!(watch.verdict(), None);
}

#[test]
fn the_window_forgets_what_is_older() {
    let mut watch = BottleneckWatch::new(OVERLAPS);
    let mut now = sample(0.0, [0.0; 7], [0.0; 4]);
    watch.observe(now);
    goes_on(&mut watch, &mut now, 1_000, true);
    assert!(watch.window.len() <= 1 + WINDOW_SECONDS as usize);
    goes_on(&mut watch, &mut now, 2 * WINDOW_SECONDS as u32, false);
    assert!(close(watch.verdict().unwrap().busy_ratio, 1.0));
}
