use ratatui::Terminal;
use ratatui::backend::TestBackend;
use rookery_proto::v1::{
    Bottleneck, Diagnosis, PolicyVersion, QueueStatus, StatusReply, UnrollAccounting,
};

use super::*;
use crate::metrics_file::{Reading, Record};
use crate::run_directory::{LearnerSummary, Outcome};
use crate::top::watch::News;

/// The screen as text.
fn shown(view: &View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen(frame, view)).unwrap();
    terminal.backend().to_string()
}

fn seconds(stages: &[(&str, f64)], factor: f64) -> std::collections::HashMap<String, f64> {
    let scaled = stages
        .iter()
        .map(|(stage, seconds)| ((*stage).to_owned(), seconds * factor));
    scaled.collect()
}

/// A run of half a minute at the moment `second` of it.
fn status(second: u32) -> StatusReply {
    let now = f64::from(second);
    StatusReply {
        run_id: "cartpole".to_owned(),
        state: RunState::Training.into(),
        version: Some(PolicyVersion {
            learner_epoch: 1,
            version: u64::from(second) * 4,
        }),
        env_steps: u64::from(second) * 9_000,
        total_env_steps: 500_000,
        updates: u64::from(second) * 4,
        episodes: u64::from(second) * 50,
        wall_seconds: now,
        mean_return: Some(20.0 * now),
        mean_length: Some(20.0 * now),
        evaluation_return: (second >= 10).then_some(230.0),
        actors: 2,
        evaluators: 1,
        shards: 8,
        shards_leased: 8,
        unrolls: Some(UnrollAccounting {
            received: u64::from(second) * 32,
            trained: u64::from(second) * 32 - 3,
            queued: 3,
            ..UnrollAccounting::default()
        }),
        learner_seconds: seconds(
            &[
                ("wait", 0.12),
                ("batch", 0.03),
                ("update", 0.8),
                ("publish", 0.01),
                ("record", 0.03),
                ("checkpoint", 0.01),
            ],
            now,
        ),
        ..StatusReply::default()
    }
}

fn news(status: Result<StatusReply, &str>) -> News {
    News {
        status: status.map_err(str::to_owned),
        metrics: Reading::default(),
        summary: None,
    }
}

fn named() -> View {
    let subject = Some("CartPole-v1 ppo".to_owned());
    View::new("cartpole-ppo-1-001".to_owned(), subject, Some(475.0))
}

fn training() -> View {
    let mut view = named();
    for second in 1..=24 {
        let mut status = status(second);
        // Not every second is alike.
        status.env_steps += u64::from(second % 3) * 1_500;
        view.hear(news(Ok(status)), 1.0);
    }
    view
}

/// As [`training`], with all that a learner can say.
fn diagnosed() -> View {
    let mut view = training();
    let mut status = status(25);
    status.bottleneck = Some(Bottleneck {
        stage: "update".to_owned(),
        busy_ratio: 0.912,
        advice: "give the learner more threads, or a GPU".to_owned(),
        suggested_actors: Some(1),
    });
    status.diagnoses = vec![Diagnosis {
        name: "entropy_collapsed".to_owned(),
        cause: "the entropy fell to 0.01 of 0.69 before the return rose".to_owned(),
        remedy: "raise ppo.entropy_coefficient".to_owned(),
        since_env_steps: 180_000,
    }];
    let actors = [
        ("environment", 0.31),
        ("forward", 0.22),
        ("send", 0.02),
        ("wait", 0.45),
    ];
    status.actor_seconds = seconds(&actors, 50.0);
    status.queue = Some(QueueStatus {
        bytes: 6 << 20,
        max_bytes: 8 << 20,
        mean_policy_lag: 1.25,
        max_policy_lag: 4,
    });
    if let Some(unrolls) = &mut status.unrolls {
        unrolls.stale = 12;
    }
    view.hear(news(Ok(status)), 1.0);
    view
}

fn finished() -> View {
    let mut view = named();
    let line = |step: u32| {
        let (steps, seconds) = (step * 5_000, f64::from(step) * 0.05);
        let text = format!(
            "{{\"update\":{step},\"env_steps\":{steps},\"seconds\":{seconds},\"mean_return\":{}}}",
            step * 5
        );
        serde_json::from_str::<Record>(&text).unwrap()
    };
    let mut heard = news(Err("no learner works in this run directory"));
    heard.metrics = Reading {
        is_anew: true,
        records: (1..=100).map(line).collect(),
    };
    heard.summary = Some(LearnerSummary {
        outcome: Outcome::Finished,
        env_steps: 500_000,
        updates: 100,
        wall_seconds: 5.0,
        mean_return: Some(500.0),
        solved_at_seconds: Some(4.75),
        solved_at_env_steps: Some(475_000),
        parameters_sha256: String::new(),
        discontinuities: 0,
        last_discontinuity: None,
        bottleneck: None,
        diagnoses: Vec::new(),
    });
    view.hear(heard, 0.0);
    view
}

#[test]
fn a_run_fits_the_smallest_usual_terminal() {
    insta::assert_snapshot!(shown(&training(), 80, 24));
}

#[test]
fn a_large_terminal_shows_all_that_a_learner_says() {
    insta::assert_snapshot!(shown(&diagnosed(), 160, 50));
}

#[test]
fn what_looks_sick_has_room_on_a_small_terminal() {
    insta::assert_snapshot!(shown(&diagnosed(), 80, 24));
}

#[test]
fn a_run_that_has_ended_is_shown_from_its_folder() {
    insta::assert_snapshot!(shown(&finished(), 80, 24));
}

#[test]
fn a_tiny_terminal_gets_lines() {
    insta::assert_snapshot!(shown(&training(), 60, 12));
}

#[test]
fn before_the_first_answer_nothing_is_made_up() {
    let mut view = named();
    let screen = shown(&view, 80, 24);
    assert!(screen.contains("connecting") && screen.contains("no episode has ended yet"));
    view.hear(news(Err("connection refused")), 0.5);
    let screen = shown(&view, 80, 24);
    assert!(
        screen.contains("no answer for 0.50 s, trying again"),
        "{screen}"
    );
    assert!(
        screen.contains("No learner answers: connection refused"),
        "{screen}"
    );
}

#[test]
fn a_question_stands_where_the_keys_did() {
    let mut view = training();
    view.question = Some("Pause training after the round in work?");
    let screen = shown(&view, 80, 24);
    assert!(
        screen.contains("Pause training after the round in work? y: yes"),
        "{screen}"
    );
    assert!(!screen.contains("q quit"), "{screen}");
}

#[test]
fn every_size_can_be_drawn() {
    let view = diagnosed();
    for width in [1, 20, 63, 64, 80, 200] {
        for height in [1, 5, 19, 20, 24, 100] {
            shown(&view, width, height);
        }
    }
}

#[test]
fn bars_are_full_to_an_eighth() {
    for (ratio, expected) in [
        (0.0, "····"),
        (0.5, "██··"),
        (0.53, "██▏·"),
        (1.0, "████"),
        (7.0, "████"),
    ] {
        assert_eq!(bar(ratio, 4), expected, "{ratio}");
    }
}

#[test]
fn all_of_it_can_be_said_in_lines() {
    insta::assert_snapshot!(text::lines(&diagnosed()).join("\n"));
}
