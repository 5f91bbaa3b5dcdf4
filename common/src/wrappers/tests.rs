use super::*;

fn every_kind() -> Vec<Wrapper> {
    vec![
        Wrapper::TimeLimit {
            max_episode_steps: 7,
            training_only: true,
        },
        Wrapper::FrameSkip {
            frames: 4,
            max_pool: true,
        },
        Wrapper::FrameStack {
            size: 4,
            padding: StackPadding::Zero,
        },
        Wrapper::ClipReward {
            low: -1.0,
            high: 0.1,
            training_only: false,
        },
        Wrapper::SignReward {
            training_only: false,
        },
        Wrapper::ScaleReward {
            factor: 1e-3,
            training_only: false,
        },
        Wrapper::ClipAction {},
        Wrapper::RescaleAction {
            low: -1.0,
            high: 1.0,
        },
        Wrapper::StickyActions {
            probability: 0.25,
            training_only: true,
        },
        Wrapper::FlattenAction {},
        Wrapper::FlattenObservation {},
        Wrapper::ClipObservation {
            low: -10.0,
            high: 10.0,
        },
        Wrapper::RescaleObservation {
            low: 0.0,
            high: 1.0,
        },
        Wrapper::CastObservation {
            to: ElementType::Float16,
        },
        Wrapper::PreviousAction {},
        Wrapper::PreviousReward {},
        Wrapper::NoopStarts {
            max_steps: 30,
            action: 0,
            training_only: true,
        },
        Wrapper::EpisodicLife {},
    ]
}

#[test]
fn every_kind_survives_text_json_and_binary_formats() {
    let wrappers = every_kind();
    assert_eq!(validate(&wrappers), []);
    for wrapper in &wrappers {
        let (kind, settings) = wrapper.to_text();
        assert_eq!(&Wrapper::from_text(&kind, settings).unwrap(), wrapper);
    }
    let json = serde_json::to_string(&wrappers).unwrap();
    assert_eq!(
        serde_json::from_str::<Vec<Wrapper>>(&json).unwrap(),
        wrappers
    );
    let mut bytes = Vec::new();
    crate::snapshot::encode(1, &wrappers, &mut bytes);
    assert_eq!(
        crate::snapshot::decode_all::<Vec<Wrapper>>(1, &bytes).unwrap(),
        wrappers
    );
}

#[test]
fn a_wrapper_is_shown_with_its_settings() {
    let shown: Vec<String> = every_kind().iter().map(ToString::to_string).collect();
    assert_eq!(shown[2], "frame_stack(padding = \"zero\", size = 4)");
    assert_eq!(shown[6], "clip_action");
    assert_eq!(shown[7], "rescale_action(high = 1.0, low = -1.0)");
}

#[test]
fn text_of_no_wrapper_is_refused() {
    let text = |kind, key: &str, value: &str| {
        Wrapper::from_text(kind, [(key.to_owned(), value.to_owned())])
    };
    assert!(text("frame_stack", "size", "4").is_ok());
    for (kind, key, value) in [
        ("frame_stac", "size", "4"),
        ("frame_stack", "sise", "4"),
        ("frame_stack", "size", "four"),
        ("frame_stack", "size", "-1"),
        ("frame_stack", "padding", "zero"),
        ("clip_action", "size", "4"),
    ] {
        assert!(text(kind, key, value).is_err(), "{kind} {key} = {value}");
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let frames = |frames| Wrapper::FrameSkip {
        frames,
        max_pool: false,
    };
    let bounds = |low, high| Wrapper::ClipObservation { low, high };
    let scale = |factor| Wrapper::ScaleReward {
        factor,
        training_only: false,
    };
    for (wrapper, keys) in [
        (frames(1), &["frames"][..]),
        (frames(2), &[]),
        (bounds(1.0, 1.0), &["high"]),
        (bounds(1.0, 1.0 + 1e-12), &["high"]),
        (bounds(f64::NAN, f64::INFINITY), &["low", "high"]),
        (scale(0.0), &["factor"]),
        (scale(f64::NAN), &["factor"]),
        (
            Wrapper::StickyActions {
                probability: 1.0,
                training_only: false,
            },
            &["probability"],
        ),
        (
            Wrapper::TimeLimit {
                max_episode_steps: 0,
                training_only: false,
            },
            &["max_episode_steps"],
        ),
    ] {
        let faults = validate(&[Wrapper::ClipAction {}, wrapper.clone()]);
        let found: Vec<&str> = faults.iter().map(|fault| fault.key).collect();
        assert_eq!(found, keys, "{wrapper}");
        assert!(faults.iter().all(|fault| fault.index == 1));
    }
    assert_eq!(validate(&vec![Wrapper::ClipAction {}; 33]).len(), 1);
}

#[test]
fn lives_are_counted_outside_of_everything_else() {
    let (life, clip) = (Wrapper::EpisodicLife {}, Wrapper::ClipAction {});
    assert_eq!(validate(&[clip.clone(), life.clone()]), []);
    let faults = validate(&[life, clip]);
    assert_eq!(faults.len(), 1);
    assert_eq!(
        faults[0].to_string(),
        "`kind` is clip_action after it; expected episodic_life as the last wrapper, since those after \
         it would take a life for a game"
    );
}

#[test]
fn a_reward_that_the_policy_sees_is_not_for_training_alone() {
    let sign = |training_only| Wrapper::SignReward { training_only };
    let seen = Wrapper::PreviousReward {};
    assert_eq!(validate(&[seen.clone(), sign(true)]), []);
    assert_eq!(validate(&[sign(false), seen.clone()]), []);
    let faults = validate(&[sign(true), seen]);
    assert_eq!(
        faults[0].to_string(),
        "`training_only` is true; expected false, because the policy sees this reward by the \
         previous_reward after it"
    );
}
