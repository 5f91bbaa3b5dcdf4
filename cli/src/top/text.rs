//! The dashboard in words: what the screen says, and all of it line by line where there is none.

use rookery_proto::v1::{RunState, StatusReply};

use super::state::{Link, Share, View};
use crate::format;
use crate::run_directory::Outcome;

/// A figure with its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fact {
    /// What it is.
    pub(super) name: &'static str,
    /// How much it is.
    pub(super) value: String,
}

fn fact(name: &'static str, value: impl Into<String>) -> Fact {
    Fact {
        name,
        value: value.into(),
    }
}

/// What is not known.
const UNKNOWN: &str = "-";

/// What the run is doing.
pub(super) fn state(view: &View) -> String {
    match &view.link {
        Link::Connecting => "connecting".to_owned(),
        Link::Lost { seconds, .. } => {
            format!("no answer for {}, trying again", format::duration(*seconds))
        }
        Link::Ended(Outcome::Finished) => "finished".to_owned(),
        Link::Ended(Outcome::Stopped) => "stopped".to_owned(),
        Link::Live => match view.status.as_ref().map(StatusReply::state) {
            None | Some(RunState::Unspecified | RunState::Waiting) => "waiting for actors",
            Some(RunState::Training) => "training",
            Some(RunState::Paused) => "paused",
            Some(RunState::Finished) => "finished",
            Some(RunState::Failed) => "failed",
        }
        .to_owned(),
    }
}

/// The part of all steps that is done.
pub(super) fn done(view: &View) -> Option<f64> {
    let status = view.status.as_ref()?;
    let total = status.total_env_steps.max(1);
    Some(status.env_steps as f64 / total as f64).filter(|_| view.summary.is_none())
}

/// Steps and times.
pub(super) fn progress(view: &View) -> String {
    if let Some(summary) = &view.summary {
        return format!(
            "{} steps, {} updates in {}",
            format::grouped(summary.env_steps),
            format::grouped(summary.updates),
            format::duration(summary.wall_seconds)
        );
    }
    let Some(status) = &view.status else {
        return match view.returns.points().last() {
            Some((steps, _)) => format!("{} steps so far", format::grouped(*steps as u64)),
            None => "nothing is known yet".to_owned(),
        };
    };
    let mut text = format!(
        "{} of {} steps  {}",
        format::grouped(status.env_steps),
        format::grouped(status.total_env_steps),
        format::duration(status.wall_seconds)
    );
    if let Some(left) = view.seconds_left() {
        text = format!("{text}, {} left", format::duration(left));
    }
    text
}

/// Environment steps per second.
pub(super) fn throughput(view: &View) -> String {
    let now = view.steps_per_second();
    let now = now.map_or_else(|| UNKNOWN.to_owned(), format::rate);
    let mean = match (&view.status, &view.summary) {
        (Some(status), None) if status.wall_seconds > 0.0 => {
            let mean = status.env_steps as f64 / status.wall_seconds;
            format!(", mean {}", format::rate(mean))
        }
        _ => String::new(),
    };
    format!("{now} steps/s{mean}")
}

/// The figures of the run.
pub(super) fn facts(view: &View) -> Vec<Fact> {
    let status = view.status.as_ref();
    let (mean, solved) = match (&view.summary, status) {
        (Some(summary), _) => (
            summary.mean_return,
            summary.solved_at_seconds.zip(summary.solved_at_env_steps),
        ),
        (None, Some(status)) => (
            status.mean_return,
            status.solved_at_seconds.zip(status.solved_at_env_steps),
        ),
        (None, None) => (None, None),
    };
    let evaluation = view
        .evaluations
        .last()
        .or_else(|| status.and_then(|status| status.evaluation_return));
    let mut facts = vec![
        fact(
            "return",
            format::optional_return(mean.or_else(|| view.returns.last())),
        ),
        fact("evaluation", format::optional_return(evaluation)),
    ];
    if view.threshold.is_some() || solved.is_some() {
        let value = solved.map_or_else(
            || "not yet".to_owned(),
            |(seconds, steps)| {
                format!(
                    "{}, {} steps",
                    format::duration(seconds),
                    format::grouped(steps)
                )
            },
        );
        facts.push(fact("solved", value));
    }
    let Some(status) = status.filter(|_| view.summary.is_none()) else {
        return facts;
    };
    facts.push(fact("episodes", episodes(status)));
    if let Some(version) = &status.version {
        let value = format!(
            "{} of learner {}",
            format::grouped(version.version),
            format::grouped(version.learner_epoch)
        );
        facts.push(fact("version", value));
    }
    match &status.queue {
        Some(queue) => {
            let value = format!(
                "{:.1}, at most {}",
                queue.mean_policy_lag, queue.max_policy_lag
            );
            facts.push(fact("policy lag", value));
            let full = queue.bytes as f64 / queue.max_bytes.max(1) as f64;
            facts.push(fact("queue", format!("{} full", format::percent(full))));
        }
        None => facts.push(fact("schedule", "synchronous")),
    }
    facts
}

fn episodes(status: &StatusReply) -> String {
    let count = format::grouped(status.episodes);
    match status.mean_length {
        Some(length) => format!("{count}, {length:.1} long"),
        None => count,
    }
}

/// Who works for the run, and what has become of their unrolls.
pub(super) fn fleet(view: &View) -> Vec<Fact> {
    let Some(status) = view.status.as_ref().filter(|_| view.summary.is_none()) else {
        return Vec::new();
    };
    let counted = |count: u32, what: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {what}{plural}")
    };
    let mut facts = vec![fact(
        "fleet",
        format!(
            "{}, {}, {}/{} shards",
            counted(status.actors, "actor"),
            counted(status.evaluators, "evaluator"),
            status.shards_leased,
            status.shards
        ),
    )];
    if let Some(unrolls) = &status.unrolls {
        let text = format!(
            "{} received, {} queued",
            format::grouped(unrolls.received),
            format::grouped(unrolls.queued)
        );
        facts.push(fact("unrolls", text));
        let lost = [
            ("duplicate", unrolls.duplicate),
            ("stale", unrolls.stale),
            ("invalid", unrolls.invalid),
        ];
        let lost = lost.iter().filter(|(_, count)| *count > 0);
        let lost: Vec<String> = lost
            .map(|(what, count)| format!("{} {what}", format::grouped(*count)))
            .collect();
        facts.push(fact(
            "refused",
            if lost.is_empty() {
                "none".to_owned()
            } else {
                lost.join(", ")
            },
        ));
    }
    facts
}

/// What stands where no stage is known.
pub(super) fn no_stages(view: &View) -> &'static str {
    if matches!(view.link, Link::Ended(_)) {
        "the run has ended"
    } else {
        "not known yet"
    }
}

/// What limits the run, then what looks sick, each with whether it is the latter.
pub(super) fn verdict(view: &View) -> Vec<(String, bool)> {
    let mut sentences = Vec::new();
    if let Link::Lost { reason, .. } = &view.link {
        sentences.push((format!("No learner answers: {reason}"), true));
        if view.status.is_some() {
            sentences.push((
                "What is shown is the last that was heard.".to_owned(),
                false,
            ));
        }
    }
    if let Link::Ended(outcome) = &view.link {
        let words = match outcome {
            Outcome::Finished => "The run is complete.",
            Outcome::Stopped => {
                "The run was stopped; `rookery train RUN_DIR --resume` goes on with it."
            }
        };
        sentences.push((words.to_owned(), false));
        return sentences;
    }
    let Some(status) = &view.status else {
        return sentences;
    };
    if !status.error.is_empty() {
        sentences.push((format!("The run has failed: {}", status.error), true));
    }
    match &status.bottleneck {
        Some(bottleneck) => {
            let mut text = format!(
                "Limited by {} ({} busy): {}",
                bottleneck.stage,
                format::percent(bottleneck.busy_ratio),
                sentence(&bottleneck.advice)
            );
            if let Some(actors) = bottleneck.suggested_actors {
                text = format!("{text} Suggested actors: {actors}.");
            }
            sentences.push((text, false));
        }
        None => sentences.push(("What limits the run is not known yet.".to_owned(), false)),
    }
    for diagnosis in &status.diagnoses {
        let text = format!(
            "{}: {} {} (since {} steps)",
            diagnosis.name.replace('_', " "),
            sentence(&diagnosis.cause),
            sentence(&diagnosis.remedy),
            format::grouped(diagnosis.since_env_steps)
        );
        sentences.push((text, true));
    }
    if status.diagnoses.is_empty() {
        sentences.push(("Nothing looks sick.".to_owned(), false));
    }
    sentences
}

/// The text with a full stop at its end.
fn sentence(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with(['.', '!', '?']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

/// Everything, line by line.
pub(super) fn lines(view: &View) -> Vec<String> {
    let subject = view
        .subject
        .as_deref()
        .map(|subject| format!("  {subject}"));
    let mut lines = vec![
        format!(
            "{}{}: {}",
            view.name,
            subject.unwrap_or_default(),
            state(view)
        ),
        progress(view),
        String::new(),
    ];
    let mut rows = vec![vec!["throughput".to_owned(), throughput(view)]];
    for Fact { name, value } in facts(view).into_iter().chain(fleet(view)) {
        rows.push(vec![name.to_owned(), value]);
    }
    for (who, stages) in [
        ("learner", view.learner_stages()),
        ("actors", view.actor_stages()),
    ] {
        rows.push(vec![who.to_owned(), in_words(&stages, no_stages(view))]);
    }
    lines.extend(format::table(&rows).lines().map(str::to_owned));
    lines.push(String::new());
    lines.extend(verdict(view).into_iter().map(|(sentence, _)| sentence));
    lines
}

fn in_words(stages: &[Share], nothing: &str) -> String {
    if stages.is_empty() {
        return nothing.to_owned();
    }
    let share = |share: &Share| format!("{} {}", share.stage, format::percent(share.ratio));
    stages.iter().map(share).collect::<Vec<_>>().join(", ")
}
