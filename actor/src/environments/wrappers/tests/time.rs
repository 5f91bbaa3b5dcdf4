//! Wrappers that deal with time: limits, skips and stacks.

use super::*;

#[test]
fn a_time_limit_shortens_episodes() {
    let environment = echo(1, &[time_limit(4)]);
    assert_eq!(environment.spec().max_episode_steps, Some(4));
    let mut shard = Shard::new(environment, 0, 1, Purpose::Episode).unwrap();
    let mut truncated = [9];
    let mut lengths = Vec::new();
    for _ in 0..8 {
        let mut episodes = Vec::new();
        let row = StepRow {
            rewards: &mut [0.0],
            terminated: &mut [0],
            truncated: &mut truncated,
            next_observations: &mut [0.0; 3],
            finals: &mut FinalObservations::default(),
            episodes: &mut episodes,
        };
        shard.step(&[0.0], row).unwrap();
        assert_eq!(truncated[0] == 1, !episodes.is_empty());
        lengths.extend(episodes.iter().map(|episode| episode.length));
    }
    assert_eq!(lengths, [4, 4]);
}

#[test]
fn a_skip_adds_up_rewards_and_ends_with_the_episode() {
    let mut environment = echo(2, &[skip(4)]);
    assert_eq!(environment.spec().max_episode_steps, Some(3));
    reset(&mut *environment, 0, 0);
    reset(&mut *environment, 1, 1);
    // 1 + 2 + 3 + 4; the second one ends with its first frame.
    let first = step(&mut *environment, &[1.0, 2.0]);
    assert_eq!(first.rewards, [10.0, 1.0]);
    assert_eq!(
        (first.terminated, first.truncated),
        (vec![0, 1], vec![0; 2])
    );
    assert_eq!(first.observations[1..3], [4.0, 1.0]);
    assert_eq!(first.observations[4..], [1.0, 2.0]);
    reset(&mut *environment, 1, 2);
    assert_eq!(step(&mut *environment, &[1.0; 2]).truncated, [0, 0]);
    // The limit of ten frames falls into the third skip: 9 + 10.
    let third = step(&mut *environment, &[1.0; 2]);
    assert_eq!(third.rewards, [19.0, 26.0]);
    assert_eq!(
        (third.terminated, third.truncated),
        (vec![0; 2], vec![1, 0])
    );
    assert_eq!(third.observations[1], 10.0);
    // The clock begins anew with the episode.
    reset(&mut *environment, 0, 3);
    assert_eq!(step(&mut *environment, &[1.0; 2]).truncated, [0, 1]);
}

#[test]
fn a_skip_counts_frames_for_a_limit_inside_and_steps_for_one_outside() {
    let limit = |wrappers: &[Wrapper]| echo(1, wrappers).spec().max_episode_steps;
    assert_eq!(limit(&[time_limit(6), skip(3)]), Some(2));
    assert_eq!(limit(&[skip(3), time_limit(2)]), Some(2));
    assert_eq!(limit(&[skip(3), skip(2)]), Some(2));
    let catch = native("Catch-v0", 1, &[skip(3)]);
    assert_eq!(catch.spec().max_episode_steps, None);
}

/// Shows a light that is on in every other frame.
struct Flicker;

impl Dynamics<2> for Flicker {
    type State = [f32; 1];

    fn begin(&self, _random: Random) -> [f32; 1] {
        [0.0]
    }

    fn advance(&self, state: &mut [f32; 1], action: f32) -> (f32, bool) {
        state[0] += 1.0;
        (0.0, action == 1.0)
    }

    fn observe(&self, [time]: &[f32; 1]) -> [f32; 2] {
        [time % 2.0, *time]
    }

    fn is_possible(&self, _state: &[f32; 1]) -> bool {
        true
    }
}

#[test]
fn pooling_shows_the_larger_of_the_last_two_frames() {
    let spec = EnvironmentSpec {
        observation: Space::bounded(&[0.0; 2], &[1.0, 99.0]),
        max_episode_steps: None,
        ..echo_spec(Space::Discrete { n: 2 })
    };
    let pooled = |frames| Wrapper::FrameSkip {
        frames,
        max_pool: true,
    };
    let mut environment = wrap(Box::new(Batch::new(spec, Flicker, 2)), &[pooled(4)]).unwrap();
    let [first, _] = [0, 1].map(|index| reset(&mut *environment, index, 0));
    assert_eq!(first, [0.0, 0.0]);
    // Frames 3 (on) and 4 (off); the second one ends with frame 1.
    let pooled = step(&mut *environment, &[0.0, 1.0]).observations;
    assert_eq!(pooled, [1.0, 4.0, 1.0, 1.0]);
    let without = step(&mut *echo(1, &[skip(4)]), &[0.0]);
    assert_eq!(without.observations[1], 4.0);
    // What an episode shows is not compared with what the last one did.
    assert_eq!(reset(&mut *environment, 1, 1), [0.0, 0.0]);
}

#[test]
fn a_stack_holds_the_last_frames_and_never_reaches_into_another_episode() {
    let mut environment = echo(1, &[stack(3)]);
    let (shape, low, high) = bounds(&environment.spec().observation);
    assert_eq!(shape, [3, 3]);
    assert_eq!(low, [0.0, 0.0, -9.0].repeat(3));
    assert_eq!(high, [1.0, 500.0, 9.0].repeat(3));
    let times = |row: &[f32]| [row[1], row[4], row[7]];
    let first = reset(&mut *environment, 0, 0);
    assert_eq!(
        first[..3],
        first[6..],
        "the first observation stands for those before"
    );
    assert_eq!(times(&first), [0.0; 3]);
    let seen: Vec<_> = (0..4)
        .map(|_| times(&step(&mut *environment, &[1.0]).observations))
        .collect();
    assert_eq!(seen[0], [0.0, 0.0, 1.0]);
    assert_eq!(seen[3], [2.0, 3.0, 4.0]);
    let next = reset(&mut *environment, 0, 1);
    assert_eq!(times(&next), [0.0; 3]);
    assert_ne!(next[0], first[0]);
    assert_eq!(next[..3], next[3..6]);

    let zeros = Wrapper::FrameStack {
        size: 3,
        padding: StackPadding::Zero,
    };
    let mut environment = echo(1, &[zeros]);
    let padded = reset(&mut *environment, 0, 1);
    assert_eq!(padded[..6], [0.0; 6]);
    assert_eq!(padded[6..], next[6..]);
}

#[test]
fn planes_are_stacked_along_their_channels() {
    let observation = |wrappers: &[Wrapper]| {
        let environment = native("Breakout-MinAtar-v0", 1, wrappers);
        environment.spec().observation.clone()
    };
    let frames_after = |padding| Space::Frames {
        frame: [4, 10, 10],
        stack: 4,
        padding,
    };
    let frames = frames_after(StackPadding::Reset);
    assert_eq!(observation(&[stack(4)]), frames);
    assert_eq!(frames.image(), Some([16, 10, 10]));
    let zeros = Wrapper::FrameStack {
        size: 4,
        padding: StackPadding::Zero,
    };
    assert_eq!(observation(&[zeros]), frames_after(StackPadding::Zero));
    // Stacks whose frames are no shifts of one another are boxes.
    let skip = Wrapper::FrameSkip {
        frames: 2,
        max_pool: false,
    };
    for wrappers in [&[stack(4), skip.clone()][..], &[stack(2), stack(2)]] {
        let observation = observation(wrappers);
        assert_eq!(bounds(&observation).0, [16, 10, 10], "{wrappers:?}");
    }
    assert_eq!(observation(&[skip, stack(4)]), frames);
    let frames = native("Acrobot-v1", 1, &[stack(4), stack(2)]);
    assert_eq!(bounds(&frames.spec().observation).0, [2, 4, 6]);
}
