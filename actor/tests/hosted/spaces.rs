//! Spaces of Python as rows of numbers, arguments, wrappers and goals.

use rookery_actor::environments::BatchedEnvironment;
use rookery_actor::environments::hosted::{HostPool, HostedBatch, HostedError};
use rookery_common::policy::{Activation, Behaviour, Policy, PolicySpec, Workspace};
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::Space;

use crate::support::{arguments, bits, pool, run, shard, try_step};

fn make(pool: &HostPool, pairs: &[(&str, &str)]) -> Result<HostedBatch, HostedError> {
    pool.make("peculiar:Shown", &arguments(pairs), 1)
}

fn first_row(batch: &mut HostedBatch) -> Vec<f32> {
    let mut row = vec![f32::MAX; batch.spec().observation.width()];
    batch
        .reset(0, Random::derive(1, Purpose::Episode, 0, 0), &mut row)
        .unwrap();
    row
}

#[test]
fn observations_are_flattened_in_gymnasiums_order() {
    let pool = pool();
    let boxed = |shape: &[usize], low: &[f32], high: &[f32]| Space::Box {
        shape: shape.to_vec(),
        low: low.to_vec(),
        high: high.to_vec(),
    };
    let (zeros, ones) = ([0.0; 7], [1.0; 7]);
    for (kind, space, row) in [
        (
            "bytes",
            boxed(&[2, 3], &[0.0; 6], &[255.0; 6]),
            &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0][..],
        ),
        ("integers", boxed(&[2], &[-5.0; 2], &[5.0; 2]), &[-5.0, 4.0]),
        ("discrete", Space::Discrete { n: 5 }, &[1.0]),
        (
            "multi_discrete",
            boxed(&[5], &zeros[..5], &ones[..5]),
            &[0.0, 1.0, 0.0, 0.0, 1.0],
        ),
        (
            "multi_binary",
            boxed(&[3], &zeros[..3], &ones[..3]),
            &[1.0, 0.0, 1.0],
        ),
        (
            "parts",
            boxed(&[7], &[0.0, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0], &ones),
            // `what` comes before `where`.
            &[0.0, 0.0, 1.0, 0.0, 1.0, 0.5, -0.25],
        ),
    ] {
        let mut batch = make(&pool, &[("space", kind)]).unwrap();
        assert_eq!(batch.spec().observation, space, "{kind}");
        assert_eq!(first_row(&mut batch), row, "{kind}");
    }
}

#[test]
fn doubles_are_rounded_to_the_nearest_of_what_policies_see() {
    let pool = pool();
    let expected = bits(&[0.1, 16_777_216.0, -0.0]);
    let mut batch = make(&pool, &[("space", "doubles")]).unwrap();
    assert_eq!(bits(&first_row(&mut batch)), expected);
    let mut two = shard(&pool, "peculiar:Shown", &[("space", "doubles")], 2);
    let step = try_step(&mut two, &[0.0; 4]).unwrap();
    assert_eq!(bits(&step.next_observations), expected.repeat(2));

    let mut batch = make(&pool, &[("space", "huge")]).unwrap();
    let random = Random::derive(1, Purpose::Episode, 0, 0);
    let error = batch.reset(0, random, &mut [0.0; 2]).unwrap_err();
    let words = "gave inf in value 1 of its first observation";
    assert!(error.message.contains(words), "{error}");
}

#[test]
fn spaces_that_are_no_rows_of_numbers_are_refused_with_what_to_do() {
    let pool = pool();
    let error = make(&pool, &[("space", "text")]).unwrap_err().to_string();
    let words = ["Text", "environment.python_wrappers"];
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    for (kind, words) in [
        ("missing", "has ['a']; its space declares ['a', 'b']"),
        ("outside", "from 0 to 2"),
    ] {
        let mut batch = make(&pool, &[("space", kind)]).unwrap();
        let mut row = vec![0.0; batch.spec().observation.width()];
        let random = Random::derive(1, Purpose::Episode, 0, 0);
        let error = batch.reset(0, random, &mut row).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn actions_are_clipped_cast_and_counted_from_where_the_space_begins() {
    let pool = pool();
    let mut boxes = shard(&pool, "peculiar:Shown", &[], 1);
    assert_eq!(
        boxes.spec().action,
        Space::bounded(&[-1.0, 0.0], &[1.0, 5.0])
    );
    assert_eq!(try_step(&mut boxes, &[0.5, 3.0]).unwrap().rewards, [30.5]);
    assert_eq!(try_step(&mut boxes, &[-9.0, 9.0]).unwrap().rewards, [49.0]);
    let mut discrete = shard(&pool, "peculiar:Shown", &[("action", "discrete")], 1);
    assert_eq!(discrete.spec().action, Space::Discrete { n: 3 });
    assert_eq!(try_step(&mut discrete, &[2.0]).unwrap().rewards, [12.0]);
    let several = |nvec: &[usize]| Space::MultiDiscrete {
        nvec: nvec.to_vec(),
    };
    for (kind, space, action, reward) in [
        ("multi_discrete", several(&[2, 3]), &[1.0, 2.0][..], 31.0),
        (
            "multi_binary",
            several(&[2; 4]),
            &[1.0, 0.0, 1.0, 1.0],
            1101.0,
        ),
        // `buttons` comes before `stick`, and their whole numbers are counted from where each begins.
        ("choices", several(&[2, 2, 4]), &[0.0, 1.0, 3.0], 810.0),
        (
            "values",
            Space::bounded(&[-1.0, -1.0, 0.0], &[1.0, 1.0, 2.0]),
            &[0.5, -9.0, 2.0],
            200.0 - 10.0 + 0.5,
        ),
        // The second of three is the largest, the second of two, and of two that are equal the first.
        (
            "mixed",
            Space::bounded(
                &[-10.0, -10.0, -10.0, 0.0, 0.0, -10.0, -10.0, -10.0, -10.0],
                &[10.0, 10.0, 10.0, 1.0, 1.0, 10.0, 10.0, 10.0, 10.0],
            ),
            &[-3.0, 2.5, 0.1, 0.5, 7.0, -2.0, -1.0, 3.0, 3.0],
            6.0 + 5.0 + 100.0 + 1000.0,
        ),
    ] {
        let mut several = shard(&pool, "peculiar:Shown", &[("action", kind)], 1);
        assert_eq!(several.spec().action, space, "{kind}");
        assert_eq!(
            try_step(&mut several, action).unwrap().rewards,
            [reward],
            "{kind}"
        );
    }
}

#[test]
fn arguments_have_the_types_that_their_texts_have() {
    let typed = [
        ("text", "4x4"),
        ("number", "3"),
        ("real", "1.0"),
        ("flag", "true"),
        ("quoted", "\"5\""),
        ("items", "[1, 2]"),
    ];
    let batch = pool()
        .make("peculiar:Typed", &arguments(&typed), 1)
        .unwrap();
    assert_eq!(batch.spec().arguments, arguments(&typed));
}

#[test]
fn wrappers_are_put_around_in_their_order() {
    let wrappers = ("python_wrappers", "peculiar:Doubled,peculiar:PlusOne");
    let mut shard = shard(&pool(), "peculiar:Scripted", &[wrappers], 1);
    let rewards: Vec<f32> = run(&mut shard, 0..1)
        .iter()
        .map(|step| step.rewards[0])
        .collect();
    assert_eq!(rewards, [3.0]);
    let missing = [("python_wrappers", "peculiar:Tripled")];
    let error = pool()
        .make("peculiar:Scripted", &arguments(&missing), 1)
        .unwrap_err();
    assert!(error.to_string().contains("has no `Tripled`"), "{error}");
}

/// Plays with a policy that has not learnt anything; a forbidden action would end the host.
fn plays_by_the_mask(kind: &str, num_envs: usize) {
    let arguments = [("kind", kind), ("action_mask", "true")];
    let mut shard = shard(&pool(), "peculiar:Masked", &arguments, num_envs);
    let spec = shard.spec().clone();
    assert!(spec.action_mask);
    let width = spec.observation.width();
    let activation = Activation::Tanh;
    let policy = PolicySpec::new(&spec.observation, &spec.action, vec![], activation)
        .and_then(|policy| policy.with_action_mask(true))
        .unwrap();
    let parameters = vec![0.5; policy.layout().len()];
    let policy = Policy::new(policy, &parameters, None).unwrap();
    let mut workspace = Workspace::default();
    let mut seen = vec![0.0; num_envs * width];
    shard.observe(&mut seen);
    for time in 0..200 {
        for row in seen.chunks_exact(width) {
            let place = row[..4].iter().position(|value| *value == 1.0).unwrap();
            let forbidden = if place == 3 { 1 } else { place };
            assert_eq!(row[4 + forbidden], 0.0, "{row:?}");
        }
        let mut actions = vec![0.0; num_envs * spec.action.width()];
        let mut log_probs = vec![0.0; num_envs];
        let random = |row| Random::derive(5, Purpose::Action, row as u64, time);
        let behaviour = Behaviour::OnPolicy;
        policy.act(
            &mut workspace,
            behaviour,
            &seen,
            random,
            &mut actions,
            &mut log_probs,
        );
        assert!(log_probs.iter().all(|log_prob| log_prob.is_finite()));
        seen = try_step(&mut shard, &actions).unwrap().next_observations;
    }
}

#[test]
fn an_action_mask_ends_the_observation_and_what_it_forbids_is_not_done() {
    plays_by_the_mask("one", 3);
    plays_by_the_mask("several", 3);
    let pool = pool();
    let unmasked = make(&pool, &[]).unwrap();
    assert!(!unmasked.spec().action_mask);
    let masked = |kind| [("kind", kind), ("action_mask", "true")];
    let error = pool
        .make("peculiar:Masked", &arguments(&masked("box")), 1)
        .unwrap_err();
    assert!(
        error.to_string().contains("nothing to choose from"),
        "{error}"
    );
    for (kind, words) in [
        ("missing", "info has no `action_mask`"),
        ("none", "leaves no action to be taken"),
    ] {
        let mut batch = pool
            .make("peculiar:Masked", &arguments(&masked(kind)), 1)
            .unwrap();
        let mut row = vec![0.0; batch.spec().observation.width()];
        let random = Random::derive(1, Purpose::Episode, 0, 0);
        let error = batch.reset(0, random, &mut row).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_goal_is_known_where_hindsight_can_compute_its_rewards() {
    let pool = pool();
    let goal = |pairs: &[(&str, &str)]| {
        let batch = pool.make("peculiar:Goal", &arguments(pairs), 1).unwrap();
        batch.spec().goal.clone()
    };
    let found = goal(&[("tolerance", "0.25")]).unwrap();
    assert_eq!((found.achieved, found.desired), (0..2, 2..4));
    assert!((found.tolerance - 0.25).abs() < 1e-6, "{}", found.tolerance);
    assert!(!found.terminates);
    assert_eq!(goal(&[("kind", "dense")]), None);
    assert_eq!(goal(&[("kind", "squares")]), None);
}

#[test]
fn a_goal_rewards_what_the_environment_rewards() {
    let mut shard = shard(&pool(), "peculiar:Goal", &[("tolerance", "0.6")], 4);
    let goal = shard.spec().goal.clone().unwrap();
    let mut reached = 0;
    for step in run(&mut shard, 0..200) {
        for (row, reward) in step.next_observations.chunks_exact(5).zip(&step.rewards) {
            assert_eq!(goal.reward(&row[0..2], &row[2..4]), *reward);
            reached += u32::from(*reward == 0.0);
        }
    }
    assert!(reached > 0);
}
