use std::collections::BTreeMap;

use rookery_common::policy::{Activation, PolicySpec};
use rookery_common::wrappers::Wrapper;

use super::*;
use crate::evaluator::evaluate;

/// A policy that always takes the first action, and its environment.
fn still(id: &str, wrappers: &[Wrapper]) -> (EnvironmentSpec, Policy) {
    let bare = environments::make(id, &BTreeMap::new(), 1).unwrap();
    let environment = environments::wrap(bare, wrappers).unwrap().spec().clone();
    let (observation, action) = (&environment.observation, &environment.action);
    let spec = PolicySpec::new(observation, action, vec![4], Activation::Tanh).unwrap();
    let policy = Policy::new(spec.clone(), &vec![0.0; spec.layout().len()], None).unwrap();
    (environment, policy)
}

/// The pictures of a GIF, each whole.
fn pictures(bytes: &[u8]) -> Vec<Frame> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(bytes).unwrap();
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    let mut shown = Frame {
        width: width as u32,
        height: height as u32,
        rgb: vec![0; width * height * 3],
    };
    let mut pictures = Vec::new();
    while let Some(part) = decoder.read_next_frame().unwrap() {
        let (left, top) = (usize::from(part.left), usize::from(part.top));
        let rows = part.buffer.chunks(usize::from(part.width) * 4);
        for (row, pixels) in rows.enumerate() {
            for (column, pixel) in pixels.chunks(4).enumerate() {
                let at = 3 * ((top + row) * width + left + column);
                shown.rgb[at..at + 3].copy_from_slice(&pixel[..3]);
            }
        }
        pictures.push(shown.clone());
    }
    pictures
}

/// Everything that is seen of an episode, and how it ended.
fn seen(environment: &EnvironmentSpec, policy: &Policy, index: u32) -> (Vec<Frame>, Ended) {
    let mut frames = Vec::new();
    let mut shard = stage(environment, index, 3).unwrap();
    let ended = play(
        &mut shard,
        policy,
        |_| true,
        |frame| {
            frames.push(frame);
            Ok(())
        },
    );
    (frames, ended.unwrap())
}

#[test]
fn what_is_recorded_is_what_was_evaluated() {
    let (environment, policy) = still("CartPole-v1", &[]);
    let evaluation = evaluate(&environment, &policy, 3, 3).unwrap();
    for index in 0..3 {
        let (frames, ended) = seen(&environment, &policy, index);
        assert_eq!(ended.return_, evaluation.returns[index as usize]);
        assert_eq!(ended.length, evaluation.lengths[index as usize]);
        assert_eq!(frames.len() as u32, ended.length, "one before each step");
        assert!(frames.windows(2).all(|pair| pair[0] != pair[1]));
    }
}

#[test]
fn the_last_picture_shows_the_end_and_not_the_next_beginning() {
    let (environment, policy) = still("CartPole-v1", &[]);
    let (frames, ended) = seen(&environment, &policy, 0);
    let mut shard = stage(&environment, 0, 3).unwrap();
    // The same steps in an environment that nobody resets.
    let mut cart = environments::make("CartPole-v1", &BTreeMap::new(), 1).unwrap();
    let random = rookery_common::seeds::Random::derive(3, Purpose::Evaluation, 0, 0);
    let mut observation = vec![0.0; 4];
    cart.reset(0, random, &mut observation).unwrap();
    assert_eq!(picture(&mut shard).unwrap(), frames[0]);
    for _ in 0..ended.length {
        let output = environments::StepOutput {
            observations: &mut observation,
            rewards: &mut [0.0],
            terminated: &mut [0],
            truncated: &mut [0],
        };
        cart.step(&[0.0], output).unwrap();
    }
    assert_eq!(cart.render(0).unwrap().unwrap(), ended.frame);
    assert_ne!(ended.frame, *frames.last().unwrap());
}

#[test]
fn a_gif_holds_every_step_and_the_end() {
    let (environment, policy) = still("FrozenLake-v1", &[Wrapper::FlattenObservation {}]);
    let (mut frames, ended) = seen(&environment, &policy, 0);
    let episode = Episode {
        seed: 3,
        index: 0,
        length: ended.length,
    };
    let film = film(&environment, &policy, episode, Format::Gif).unwrap();
    assert_eq!((film.return_, film.length), (ended.return_, ended.length));
    frames.push(ended.frame);
    // Few colours are kept exactly.
    assert_eq!(pictures(&film.bytes), frames);
}

#[test]
fn a_strip_shows_the_first_the_last_and_some_between() {
    let (environment, policy) = still("CartPole-v1", &[]);
    let (frames, ended) = seen(&environment, &policy, 0);
    let episode = Episode {
        seed: 3,
        index: 0,
        length: ended.length,
    };
    let film = film(&environment, &policy, episode, Format::Strip).unwrap();
    let mut reader = png::Decoder::new(io::Cursor::new(film.bytes))
        .read_info()
        .unwrap();
    let mut strip = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut strip).unwrap();
    assert_eq!((info.width, info.height), (8 * 600, 400));
    let row = 600 * 3;
    let middle = 250 * 8 * row;
    let part = |place: usize| &strip[middle + place * row..][..row];
    let line = |frame: &Frame| frame.rgb[250 * row..][..row].to_vec();
    assert_eq!(part(0), line(&frames[0]));
    assert_eq!(part(1), line(&frames[ended.length as usize / 7]));
    assert_eq!(part(7), line(&ended.frame));
}

#[test]
fn an_order_names_its_files_and_what_is_wrong_with_it() {
    let (environment, _) = still("CartPole-v1", &[]);
    let order = |name: &str, episodes| Order::new(Path::new(name), episodes, 2, &environment);
    let one = order("a/b.gif", 1).unwrap();
    assert_eq!(one.file(0), Path::new("a/b.gif"));
    let two = order("a/b.PNG", 2).unwrap();
    assert_eq!(two.format, Format::Strip);
    assert_eq!(two.file(1), Path::new("a/b-2.PNG"));
    for (refused, message) in [
        (
            order("a/b.webp", 1),
            "a/b.webp ends in neither .gif, for an animation, nor .png, for a strip of pictures",
        ),
        (
            order("a/b.gif", 3),
            "3 episodes are to be recorded and 2 played; play as many at least",
        ),
    ] {
        assert_eq!(refused.unwrap_err().to_string(), message);
    }
    let (maze, _) = still("TMaze-v0", &[]);
    assert_eq!(
        Order::new(Path::new("a.gif"), 1, 1, &maze)
            .unwrap_err()
            .to_string(),
        "`TMaze-v0` draws no pictures; record another environment"
    );
}

#[test]
fn pictures_of_several_sizes_are_refused() {
    let frame = |width| Frame {
        width,
        height: 1,
        rgb: vec![0; 3 * width as usize],
    };
    let mut animation = Animation::new(&frame(2), 30).unwrap();
    animation.push(frame(2)).unwrap();
    assert!(matches!(
        animation.push(frame(1)),
        Err(RecordingError::Size)
    ));
    assert!(matches!(
        Animation::new(&frame(0), 30),
        Err(RecordingError::Size)
    ));
    let refused = strip::png(&[frame(1), frame(2)]);
    assert!(matches!(refused, Err(RecordingError::Size)));
}
