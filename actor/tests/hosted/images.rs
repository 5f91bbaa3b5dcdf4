//! Images come as frames of bytes, channels first, and stacks are what their space says.

use rookery_actor::environments::BatchedEnvironment;
use rookery_common::spaces::Space;
use rookery_common::unroll::{FrameLayout, ObservationLog, UnrollShape, encode_pixels};
use rookery_common::wrappers::StackPadding;

use crate::support::{arguments, pool, run, shard, shown, try_step, unroll_of};

const WRAPPERS: &str = "python_wrappers";

fn frames(frame: [usize; 3], stack: usize, padding: StackPadding) -> Space {
    Space::Frames {
        frame,
        stack,
        padding,
    }
}

fn pixels(row: &[f32]) -> Vec<u8> {
    let mut pixels = Vec::new();
    encode_pixels(row, &mut pixels).unwrap();
    pixels
}

#[test]
fn images_are_frames_and_other_tables_of_bytes_are_not() {
    let pool = pool();
    let space = |pairs: &[(&str, &str)]| {
        let batch = pool.make("peculiar:Filmed", &arguments(pairs), 1).unwrap();
        batch.spec().observation.clone()
    };
    let single = |frame| frames(frame, 1, StackPadding::Reset);
    for (shape, expected) in [
        ("[32, 40]", single([1, 32, 40])),
        ("[32, 40, 1]", single([1, 32, 40])),
        ("[32, 40, 3]", single([3, 32, 40])),
        ("[3, 32, 40]", single([3, 32, 40])),
        // Whether these are a stack nobody has said.
        ("[5, 32, 40]", single([5, 32, 40])),
    ] {
        assert_eq!(space(&[("shape", shape)]), expected, "{shape}");
    }
    // Symbols rather than brightness, other bounds, and more than an image.
    for pairs in [
        &[("shape", "[7, 7, 3]")][..],
        &[("high", "10")],
        &[("shape", "[2, 3, 32, 40]")],
        &[("shape", "[128]")],
    ] {
        assert!(matches!(space(pairs), Space::Box { .. }), "{pairs:?}");
    }
    for (wrapper, stack, padding) in [
        ("peculiar:stack", 3, StackPadding::Reset),
        ("peculiar:stack_after_zeros", 3, StackPadding::Zero),
    ] {
        for (shape, frame) in [("[32, 40]", [1, 32, 40]), ("[32, 40, 3]", [3, 32, 40])] {
            let pairs = [(WRAPPERS, wrapper), ("shape", shape)];
            assert_eq!(space(&pairs), frames(frame, stack, padding), "{pairs:?}");
        }
    }
    let pong = pool.make("ALE/Pong-v5", &arguments(&[]), 2).unwrap();
    assert_eq!(
        pong.spec().observation,
        frames([1, 84, 84], 4, StackPadding::Zero)
    );
    let colours = arguments(&[("grayscale", "false"), ("stack_num", "2")]);
    let pong = pool.make("ALE/Pong-v5", &colours, 1).unwrap();
    assert_eq!(
        pong.spec().observation,
        frames([3, 84, 84], 2, StackPadding::Zero)
    );
}

/// The same noise, with channels last and as planes.
#[test]
fn channels_that_come_last_are_put_first() {
    let pool = pool();
    for wrapper in [None, Some("peculiar:stack_after_zeros")] {
        let mut pairs = vec![("shape", "[32, 40, 3]")];
        pairs.extend(wrapper.map(|wrapper| (WRAPPERS, wrapper)));
        let mut filmed = shard(&pool, "peculiar:Filmed", &pairs, 2);
        let mut plain = shard(&pool, "peculiar:Filmed", &[("shape", "[3840]")], 2);
        let mut rows = vec![(shown(&filmed), shown(&plain))];
        for step in 0..40_u64 {
            let actions = [f32::from(u8::from(step % 7 == 5)) * 2.0, 0.0];
            let next = |shard| try_step(shard, &actions).unwrap().next_observations;
            rows.push((next(&mut filmed), next(&mut plain)));
        }
        for (image, plain) in rows {
            let width = image.len() / 2;
            for (image, plain) in image.chunks_exact(width).zip(plain.chunks_exact(3840)) {
                let newest = pixels(&image[width - 3840..]);
                for (place, value) in plain.iter().enumerate() {
                    let (pixel, channel) = (place / 3, place % 3);
                    assert_eq!(f32::from(newest[channel * 1280 + pixel]), *value);
                }
            }
        }
    }
}

/// Every frame goes into an unroll once, and what comes out of it is what was seen.
#[test]
fn t27_stacks_of_hosts_survive_an_unroll() {
    for (id, pairs, steps) in [
        ("peculiar:Filmed", &[(WRAPPERS, "peculiar:stack")][..], 40),
        (
            "peculiar:Filmed",
            &[(WRAPPERS, "peculiar:stack_after_zeros"), ("limit", "5")],
            40,
        ),
        (
            "ALE/Breakout-v5",
            &[("max_num_frames_per_episode", "200")],
            120,
        ),
    ] {
        let mut shard = shard(&pool(), id, pairs, 2);
        let width = shard.spec().observation.width();
        let frames = FrameLayout::of(&shard.spec().observation);
        let shape = UnrollShape {
            unroll_length: steps as usize,
            envs_per_shard: 2,
            observation_width: width,
            action_width: 1,
            state_width: 0,
            frames,
        };
        let mut log = ObservationLog::new(&shape);
        let mut rows = shown(&shard);
        log.push(&rows).unwrap();
        let (mut finals, mut final_index) = (Vec::new(), Vec::new());
        let (mut terminated, mut truncated) = (Vec::new(), Vec::new());
        for (t, step) in run(&mut shard, 0..steps).into_iter().enumerate() {
            log.push(&step.next_observations).unwrap();
            log.push_finals(&step.finals.observations).unwrap();
            rows.extend(step.next_observations);
            finals.extend(step.finals.observations);
            final_index.extend(step.finals.envs.iter().map(|env| 2 * t as u32 + env));
            terminated.extend(step.terminated);
            truncated.extend(step.truncated);
        }
        assert!(terminated.contains(&1) || truncated.contains(&1), "{id}");
        let (observation, final_observation) = log.finish();
        let size = frames.unwrap().size;
        let stack = frames.unwrap().stack;
        assert_eq!(
            observation.len(),
            2 * size * (steps as usize + stack),
            "each frame once"
        );
        let unroll = unroll_of(
            observation,
            final_observation,
            (terminated, truncated, final_index),
        );
        let mut got = vec![0.0; rows.len()];
        unroll.copy_observations(&shape, &mut got);
        assert!(got == rows, "{id}");
        let mut got = vec![0.0; finals.len()];
        unroll.copy_finals(&shape, &mut got);
        assert!(got == finals, "{id}");
    }
}

#[test]
fn a_stack_that_is_none_is_a_fault_with_what_to_do() {
    let mut shard = shard(
        &pool(),
        "peculiar:Filmed",
        &[(WRAPPERS, "peculiar:Shuffled")],
        1,
    );
    for _ in 0..2 {
        try_step(&mut shard, &[0.0]).unwrap();
    }
    let error = try_step(&mut shard, &[0.0]).unwrap_err().to_string();
    assert!(
        error.contains("frame 0 is not frame 1 of the stack before")
            && error.contains("frame_stack"),
        "{error}"
    );
}
