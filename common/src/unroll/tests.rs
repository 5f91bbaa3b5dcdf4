use super::*;

pub(crate) const SHAPE: UnrollShape = UnrollShape {
    unroll_length: 3,
    envs_per_shard: 2,
    observation_width: 2,
    action_width: 1,
    state_width: 3,
    frames: None,
};
pub(crate) const ACTIONS: Space = Space::Discrete { n: 2 };

/// Environment 0 is truncated at step 1, environment 1 terminates at step 2.
pub(crate) fn unroll() -> Unroll {
    Unroll {
        key: UnrollKey {
            run_id: "run".to_owned(),
            shard: ShardId(4),
            lease_epoch: LeaseEpoch(7),
            index: UnrollIndex(9),
        },
        version: PolicyVersion {
            learner_epoch: 1,
            version: 9,
        },
        observation: (0..16).map(|x| x as f32).collect::<Vec<_>>().into(),
        initial_state: vec![0.5, -0.25, 0.125, 0.0, 0.0, 0.0].into(),
        action: vec![0.0, 1.0, 1.0, 0.0, 0.0, 1.0].into(),
        log_prob: vec![-0.7; 6].into(),
        reward: vec![1.0; 6].into(),
        terminated: vec![0, 0, 0, 0, 0, 1].into(),
        truncated: vec![0, 0, 1, 0, 0, 0].into(),
        final_index: vec![2].into(),
        final_observation: vec![0.5, 0.25].into(),
        episode_index: vec![2, 5].into(),
        episode_return: vec![500.0, 17.0].into(),
        episode_length: vec![500, 17].into(),
        state_after: Bytes::from_static(b"state"),
        discontinuity: Some("a step raised ValueError\nTraceback".to_owned()),
    }
}

type Spoil = fn(&mut Unroll);

fn field_of(error: &UnrollError) -> &'static str {
    match error {
        UnrollError::Malformed { field, .. } | UnrollError::NonFinite { field, .. } => field,
    }
}

#[test]
fn a_sound_unroll_is_accepted() {
    assert_eq!(unroll().validate(&SHAPE, &ACTIONS), Ok(()));
}

#[test]
fn every_wrong_extent_names_its_field() {
    let cases: [(&str, Spoil); 7] = [
        ("initial_state", |u| u.initial_state = Vec::new().into()),
        ("observation", |u| u.observation = vec![0.0; 15].into()),
        ("action", |u| u.action = vec![0.0; 7].into()),
        ("reward", |u| u.reward = Vec::new().into()),
        ("truncated", |u| u.truncated = vec![0; 5].into()),
        ("final_observation", |u| {
            u.final_observation = vec![0.0; 3].into();
        }),
        ("episode_length", |u| u.episode_length = vec![1].into()),
    ];
    for (field, spoil) in cases {
        let mut spoiled = unroll();
        spoil(&mut spoiled);
        assert_eq!(
            field_of(&spoiled.validate(&SHAPE, &ACTIONS).unwrap_err()),
            field
        );
    }
}

#[test]
fn every_non_finite_value_names_its_field_and_place() {
    let cases: [(&str, Spoil); 5] = [
        ("initial_state", |u| {
            u.initial_state = vec![0.0, 0.0, f32::NAN, 0.0, 0.0, 0.0].into();
        }),
        ("observation", |u| {
            let mut values = u.observation.rows().unwrap().to_vec();
            values[5] = f32::NAN;
            u.observation = values.into();
        }),
        ("log_prob", |u| {
            u.log_prob = vec![f32::NEG_INFINITY; 6].into();
        }),
        ("reward", |u| {
            u.reward = vec![1.0, f32::INFINITY, 1.0, 1.0, 1.0, 1.0].into();
        }),
        ("episode_return", |u| {
            u.episode_return = vec![1.0, f64::NAN].into();
        }),
    ];
    for (field, spoil) in cases {
        let mut spoiled = unroll();
        spoil(&mut spoiled);
        let error = spoiled.validate(&SHAPE, &ACTIONS).unwrap_err();
        assert!(matches!(error, UnrollError::NonFinite { .. }), "{error}");
        assert_eq!(field_of(&error), field);
    }
}

#[test]
fn actions_and_flags_outside_their_sets_are_refused() {
    for action in [2.0, -1.0, 0.5] {
        let mut spoiled = unroll();
        spoiled.action = vec![0.0, 1.0, action, 0.0, 0.0, 1.0].into();
        assert_eq!(
            field_of(&spoiled.validate(&SHAPE, &ACTIONS).unwrap_err()),
            "action"
        );
    }
    let mut spoiled = unroll();
    spoiled.terminated = vec![0, 0, 0, 0, 0, 2].into();
    assert_eq!(
        field_of(&spoiled.validate(&SHAPE, &ACTIONS).unwrap_err()),
        "terminated"
    );
}

#[test]
fn t2_a_truncated_step_without_its_final_observation_is_refused() {
    let mut spoiled = unroll();
    spoiled.final_index = Vec::new().into();
    spoiled.final_observation = Vec::<f32>::new().into();
    assert_eq!(
        field_of(&spoiled.validate(&SHAPE, &ACTIONS).unwrap_err()),
        "final_index"
    );
    let mut spoiled = unroll();
    spoiled.final_index = vec![2, 5].into();
    spoiled.final_observation = vec![0.0; 4].into();
    assert_eq!(
        field_of(&spoiled.validate(&SHAPE, &ACTIONS).unwrap_err()),
        "final_index"
    );
}

#[test]
fn episodes_end_where_the_flags_say() {
    for indices in [vec![2, 4], vec![5, 2], vec![2, 2], vec![2, 600]] {
        let mut spoiled = unroll();
        spoiled.episode_index = indices.into();
        assert_eq!(
            field_of(&spoiled.validate(&SHAPE, &ACTIONS).unwrap_err()),
            "episode_index"
        );
    }
}

#[test]
fn a_column_reads_unaligned_memory() {
    let mut bytes = vec![0_u8];
    bytes.extend(1.5_f32.to_le_bytes());
    bytes.extend((-2.0_f32).to_le_bytes());
    let column = Column::<f32>::from_bytes(Bytes::from(bytes).slice(1..)).unwrap();
    assert_eq!(column.to_vec(), [1.5, -2.0]);
    assert!(Column::<f32>::from_bytes(Bytes::from_static(b"12345")).is_none());
}

#[test]
fn a_long_reason_keeps_its_beginning_and_its_end() {
    let short = "lost\nTraceback".to_owned();
    assert_eq!(bounded_discontinuity(short.clone()), short);
    // Of two bytes each, so that half of the room ends within one.
    let long = format!("first{}last", "\u{e9}".repeat(3_000));
    let bounded = bounded_discontinuity(long);
    assert!(bounded.len() <= MAX_DISCONTINUITY_BYTES);
    assert!(bounded.len() > MAX_DISCONTINUITY_BYTES - 8);
    assert!(bounded.starts_with("first\u{e9}"));
    assert!(bounded.ends_with("\u{e9}last"));
    assert!(bounded.contains("\u{e9}\n[..]\n\u{e9}"));
}
