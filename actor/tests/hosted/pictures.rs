//! Pictures of hosted environments, where they are made to be seen and nowhere else.

use rookery_actor::environments::{BatchedEnvironment, Frame, StepOutput};
use rookery_actor::shard::{FinalObservations, Shard, StepRow};
use rookery_common::seeds::{Purpose, Random};

use crate::support::{arguments, pool};

/// Takes a step of every instance.
fn step(batch: &mut dyn BatchedEnvironment, actions: &[f32]) {
    let num_envs = batch.num_envs();
    let mut observations = vec![0.0; num_envs * batch.spec().observation.width()];
    let output = StepOutput {
        observations: &mut observations,
        rewards: &mut vec![0.0; num_envs],
        terminated: &mut vec![0; num_envs],
        truncated: &mut vec![0; num_envs],
    };
    batch.step(actions, output).unwrap();
}

fn reset(batch: &mut dyn BatchedEnvironment) {
    let mut row = vec![0.0; batch.spec().observation.width()];
    for index in 0..batch.num_envs() {
        let random = Random::derive(1, Purpose::Episode, index as u64, 0);
        batch.reset(index, random, &mut row).unwrap();
    }
}

#[test]
fn an_environment_draws_itself_where_it_is_made_to_be_seen() {
    let pool = pool();
    let none = arguments(&[]);
    let mut plain = pool.make("peculiar:Filmed", &none, 2).unwrap();
    reset(&mut plain);
    assert_eq!(plain.render(1).unwrap(), None);
    let mut filmed = pool.make_visible("peculiar:Filmed", &none, 2).unwrap();
    reset(&mut filmed);
    step(&mut filmed, &[0.0, 2.0]);
    let mut row = vec![0.0; filmed.spec().observation.width()];
    let random = Random::derive(1, Purpose::Episode, 1, 1);
    filmed.reset(1, random, &mut row).unwrap();
    for (index, steps) in [(0, 1), (1, 0)] {
        let Frame { width, height, rgb } = filmed.render(index).unwrap().unwrap();
        assert_eq!((width, height, rgb.len()), (2, 3, 18));
        assert_eq!(rgb[..4], [10, 20, steps, 0]);
    }
    // Drawing nothing is no fault.
    let mut blind = pool.make_visible("peculiar:Scripted", &none, 1).unwrap();
    reset(&mut blind);
    assert_eq!(blind.render(0).unwrap(), None);
    for id in ["LunarLander-v3", "gymnasium:CartPole-v1"] {
        let mut drawn = pool.make_visible(id, &none, 1).unwrap();
        reset(&mut drawn);
        let frame = drawn.render(0).unwrap().unwrap();
        assert_eq!((frame.width, frame.height), (600, 400), "{id}");
    }
}

/// The host would have begun the next episode in the step that ended one.
#[test]
fn the_end_of_an_episode_that_is_watched_can_be_seen() {
    let batch = pool()
        .make_visible("peculiar:Filmed", &arguments(&[]), 1)
        .unwrap();
    let width = batch.spec().observation.width();
    let mut shard = Shard::watched(Box::new(batch), 0, 1, Purpose::Evaluation).unwrap();
    for (action, steps_at_the_end) in [(0.0, None), (0.0, None), (2.0, Some(3)), (2.0, Some(1))] {
        let row = StepRow {
            rewards: &mut [0.0],
            terminated: &mut [0],
            truncated: &mut [0],
            next_observations: &mut vec![0.0; width],
            finals: &mut FinalObservations::default(),
            episodes: &mut Vec::new(),
        };
        shard.step(&[action], row).unwrap();
        let end = shard.take_final_frame().map(|frame| frame.rgb[2]);
        assert_eq!(end, steps_at_the_end);
    }
    assert_eq!(
        shard.render(0).unwrap().unwrap().rgb[2],
        0,
        "the next has begun"
    );
}

/// The screen is that of the game which is played: where it is grey and resized it is what is observed, but for
/// the frame before it, which can be brighter.
#[test]
fn atari_shows_the_screen_of_the_game_that_is_played() {
    let pairs = arguments(&[("maxpool", "false")]);
    let mut game = pool().make_visible("ALE/Breakout-v5", &pairs, 1).unwrap();
    reset(&mut game);
    let mut shown = vec![0.0; game.spec().observation.width()];
    for time in 0..80_u64 {
        let action = Random::derive(3, Purpose::Action, 0, time).below(4) as f32;
        step(&mut game, &[action]);
        let frame = game.render(0).unwrap().unwrap();
        assert_eq!((frame.width, frame.height), (160, 210));
        game.observe(&mut shown);
        let newest = &shown[3 * 84 * 84..];
        let differing = grey_by_area(&frame)
            .iter()
            .zip(newest)
            .filter(|(screen, seen)| (*screen - *seen * 255.0).abs() > 2.0)
            .count();
        assert_eq!(differing, 0, "step {time}");
    }
}

/// A picture in shades of grey at 84x84, each pixel the mean of the area that it covers.
fn grey_by_area(frame: &Frame) -> Vec<f32> {
    let grey: Vec<f32> = frame
        .rgb
        .chunks_exact(3)
        .map(|pixel| {
            let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(f32::from);
            (0.2989 * red + 0.587 * green + 0.114 * blue).round()
        })
        .collect();
    let (width, height) = (frame.width as usize, frame.height as usize);
    let shares = |place: usize, extent: usize| {
        let scale = extent as f32 / 84.0;
        let (from, to) = (place as f32 * scale, (place + 1) as f32 * scale);
        (0..extent)
            .map(move |pixel| {
                let pixel = pixel as f32;
                ((pixel + 1.0).min(to) - pixel.max(from)).max(0.0) / scale
            })
            .enumerate()
            .filter(|(_, share)| *share > 0.0)
            .collect::<Vec<_>>()
    };
    let mut resized = Vec::with_capacity(84 * 84);
    for row in 0..84 {
        for column in 0..84 {
            let mut sum = 0.0;
            for (y, of_row) in shares(row, height) {
                for (x, of_column) in shares(column, width) {
                    sum += of_row * of_column * grey[y * width + x];
                }
            }
            resized.push(sum);
        }
    }
    resized
}
