//! `rookery top`: a run at a glance, again and again, on a terminal.

use std::io::{IsTerminal as _, stdout};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use rookery_proto::v1::RunState;

use crate::failure::Failure;

mod draw;
mod state;
mod text;
mod watch;

use state::{Link, View};
use watch::{Message, Watch};

/// Time for which a key is waited for before the screen is drawn again.
const PATIENCE: Duration = Duration::from_millis(100);

/// Show a run on the terminal while it goes on
///
/// Returns, throughput, where the time of learner and actors goes, who works for the run, what limits it
/// and what looks sick. Of a run that has ended it shows what the run directory keeps. q quits, p pauses
/// training or has it go on. Where the output is no terminal, or with --once, it prints one snapshot.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rookery top runs/cartpole-ppo-1-001
  rookery top 127.0.0.1:50051
  rookery top learner.example.org:50051 --set security.token_file=token --set security.tls_ca=certs/ca.pem")]
pub(crate) struct TopArguments {
    /// The run's folder, or where its learner listens: `host:port`, `https://host:port` or `unix:///path`
    #[arg(value_name = "RUN_DIR|ADDRESS")]
    target: String,
    /// Change one key of the security settings, which are those of the run's folder, such as
    /// `security.tls_ca=ca.pem`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print one snapshot and end
    #[arg(long)]
    once: bool,
}

/// Shows the run until somebody has seen enough.
///
/// # Errors
/// Where there is no such run, its files cannot be understood, or without a terminal no learner answers.
pub(crate) fn top(arguments: &TopArguments) -> anyhow::Result<()> {
    let (watch, view) = Watch::new(&arguments.target, &arguments.set)?;
    if arguments.once || !stdout().is_terminal() {
        return print(watch, view);
    }
    let mut terminal =
        ratatui::try_init().context("cannot use this terminal; --once needs none")?;
    let shown = show(&mut terminal, watch, view);
    ratatui::restore();
    shown
}

/// Prints one snapshot.
fn print(mut watch: Watch, mut view: View) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start an event loop")?;
    view.hear(runtime.block_on(watch.look())?, 0.0);
    for line in text::lines(&view) {
        println!("{line}");
    }
    match &view.link {
        Link::Lost { reason, .. } => {
            let message = format!("no learner answers: {reason}");
            Err(Failure::new(watch.exit(), message).into())
        }
        Link::Connecting | Link::Live | Link::Ended(_) => Ok(()),
    }
}

/// Draws, and does what keys say.
fn show(terminal: &mut DefaultTerminal, watch: Watch, mut view: View) -> anyhow::Result<()> {
    let (messages, wishes) = watch.start()?;
    let mut heard_at = Instant::now();
    loop {
        terminal
            .draw(|frame| draw::screen(frame, &view))
            .context("cannot draw")?;
        if event::poll(PATIENCE).context("cannot read keys")?
            && let Event::Key(key) = event::read().context("cannot read keys")?
            && key.kind == KeyEventKind::Press
        {
            match Wish::of(key, &mut view) {
                Some(Wish::Quit) => return Ok(()),
                Some(Wish::Pause(is_paused)) => {
                    // One that is not through yet is enough.
                    let _ = wishes.try_send(is_paused);
                }
                None => {}
            }
        }
        for message in messages.try_iter() {
            match message {
                Message::News(news) => {
                    let seconds = heard_at.elapsed().as_secs_f64();
                    heard_at = Instant::now();
                    view.hear(*news, seconds);
                }
                Message::Failed(error) => return Err(error),
                Message::End => return Ok(()),
            }
        }
    }
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Quit,
    Pause(bool),
}

const PAUSE: &str = "Pause training after the round in work?";
const RESUME: &str = "Go on with training?";

impl Wish {
    /// Understands a key; pausing is asked about first.
    fn of(key: KeyEvent, view: &mut View) -> Option<Self> {
        let is_interrupt =
            key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        if is_interrupt {
            return Some(Self::Quit);
        }
        if let Some(question) = view.question.take() {
            let is_agreed = matches!(key.code, KeyCode::Char('y' | 'Y'));
            return is_agreed.then_some(Self::Pause(question == PAUSE));
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Some(Self::Quit),
            KeyCode::Char('p') if view.link == Link::Live => {
                let state = view
                    .status
                    .as_ref()
                    .map(rookery_proto::v1::StatusReply::state);
                view.question = match state {
                    Some(RunState::Training) => Some(PAUSE),
                    Some(RunState::Paused) => Some(RESUME),
                    _ => None,
                };
                None
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rookery_proto::v1::StatusReply;

    use super::*;

    fn press(view: &mut View, key: char) -> Option<Wish> {
        Wish::of(KeyEvent::from(KeyCode::Char(key)), view)
    }

    #[test]
    fn training_is_paused_and_resumed_only_where_that_is_meant() {
        let mut view = View::new("run".to_owned(), None, None);
        assert_eq!(press(&mut view, 'p'), None);
        assert_eq!(view.question, None, "nobody is there to ask");
        view.link = Link::Live;
        for (state, is_paused) in [(RunState::Training, true), (RunState::Paused, false)] {
            view.status = Some(StatusReply {
                state: state.into(),
                ..StatusReply::default()
            });
            assert_eq!(press(&mut view, 'p'), None);
            assert!(view.question.is_some());
            assert_eq!(press(&mut view, 'n'), None);
            assert_eq!(view.question, None);
            press(&mut view, 'p');
            assert_eq!(press(&mut view, 'y'), Some(Wish::Pause(is_paused)));
        }
        assert_eq!(press(&mut view, 'q'), Some(Wish::Quit));
    }
}
