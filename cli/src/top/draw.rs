//! The screen, as a function of what is known.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{
    Axis, Block, Borders, Chart, Dataset, GraphType, Padding, Paragraph, Sparkline, Wrap,
};
use rookery_proto::v1::RunState;

use super::state::{Link, Share, View};
use super::text::{self, Fact};
use crate::format;

/// A smaller terminal gets the figures line by line.
const MIN_SIZE: (u16, u16) = (64, 20);
/// Rows of the stages at least: as many as the learner has in most runs.
const MIN_STAGES: u16 = 6;
/// Columns of a stage's name and of its figure.
const STAGE_NAME: usize = 11;
const STAGE_FIGURE: usize = 8;

const TRAINING: Color = Color::Cyan;
const EVALUATION: Color = Color::Yellow;
const QUIET: Style = Style::new().fg(Color::DarkGray);
const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws the dashboard.
pub(super) fn screen(frame: &mut Frame<'_>, view: &View) {
    let area = frame.area();
    if area.width < MIN_SIZE.0 || area.height < MIN_SIZE.1 {
        let lines = text::lines(view);
        frame.render_widget(Paragraph::new(lines.join("\n")), area);
        return;
    }
    let (learner, actors) = (view.learner_stages(), view.actor_stages());
    let stages = (learner.len() as u16).max(MIN_STAGES) + 1;
    let verdict = verdict(view);
    // Those that wrap take two.
    let rows = verdict
        .lines
        .iter()
        .map(|line| line.width() as u16 / area.width + 1);
    let verdict_height = rows.sum::<u16>().clamp(3, (area.height / 4).max(3)) + 1;
    let [head, gauge, top, middle, bottom, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(6),
        Constraint::Length(stages),
        Constraint::Length(verdict_height),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_head(frame, view, head);
    frame.render_widget(progress(view, gauge.width), gauge);

    let [left, right] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(top);
    draw_returns(frame, view, left);
    draw_facts(frame, view, right);

    // The fleet has longer lines.
    let [left, right] =
        Layout::horizontal([Constraint::Fill(4), Constraint::Fill(5)]).areas(middle);
    draw_stages(frame, "Learner", &learner, view, left);
    draw_actors(frame, &actors, view, right);

    let section = section(Line::styled("Verdict", TITLE));
    frame.render_widget(
        Paragraph::new(verdict)
            .wrap(Wrap { trim: true })
            .block(section),
        bottom,
    );
    frame.render_widget(footer(view), foot);
}

/// A part of the screen below a ruled title.
fn section(title: Line<'_>) -> Block<'_> {
    Block::new()
        .borders(Borders::TOP)
        .border_style(QUIET)
        .title(title)
        .padding(Padding::horizontal(1))
}

fn draw_head(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let mut name = vec![Span::styled(format!(" {}", view.name), TITLE)];
    if let Some(subject) = &view.subject {
        name.push(Span::styled(format!("  {subject}"), QUIET));
    }
    let (state, colour) = state(view);
    let state = Line::styled(format!("{state} "), Style::new().fg(colour).bold());
    let room = (state.width() as u16).min(area.width / 2);
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(room)]).areas(area);
    frame.render_widget(Line::from(name), left);
    frame.render_widget(state.alignment(Alignment::Right), right);
}

/// What the run is doing, in few words, and in which colour they are said.
fn state(view: &View) -> (String, Color) {
    let words = text::state(view);
    let colour = match &view.link {
        Link::Connecting => Color::DarkGray,
        Link::Lost { .. } => Color::Red,
        Link::Ended(_) => Color::Green,
        Link::Live => match view
            .status
            .as_ref()
            .map(rookery_proto::v1::StatusReply::state)
        {
            Some(RunState::Training | RunState::Finished) => Color::Green,
            Some(RunState::Failed) => Color::Red,
            _ => Color::Yellow,
        },
    };
    (words, colour)
}

/// How far the run is.
fn progress(view: &View, width: u16) -> Line<'static> {
    let words = text::progress(view);
    let room = usize::from(width).saturating_sub(words.chars().count() + 3);
    let mut spans = vec![Span::raw(" ")];
    match text::done(view) {
        Some(ratio) if room >= 8 => spans.extend([
            Span::styled(bar(ratio, room), Style::new().fg(TRAINING)),
            Span::raw(" "),
        ]),
        _ => {}
    }
    spans.push(Span::raw(words));
    Line::from(spans)
}

/// A bar of `width` columns of which `ratio` is full, to an eighth of a column.
fn bar(ratio: f64, width: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (ratio.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let mut text = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        text.push(EIGHTHS[eighths % 8]);
    }
    let missing = width.saturating_sub(text.chars().count());
    text + &"·".repeat(missing)
}

fn draw_returns(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let (training, evaluations) = (view.returns.points(), view.evaluations.points());
    let mut title = vec![Span::styled("Return  ", TITLE)];
    title.push(Span::styled("━ training", Style::new().fg(TRAINING)));
    if !evaluations.is_empty() {
        title.push(Span::styled("  • evaluation", Style::new().fg(EVALUATION)));
    }
    if let Some(threshold) = view.threshold {
        let words = format!("  ─ solved at {}", format::episode_return(threshold));
        title.push(Span::styled(words, QUIET));
    }
    let section = section(Line::from(title));
    if training.is_empty() && evaluations.is_empty() {
        let words = Paragraph::new("no episode has ended yet").style(QUIET);
        frame.render_widget(words.block(section), area);
        return;
    }
    let points = || training.iter().chain(evaluations).copied();
    let right = points().map(|(x, _)| x).fold(1.0, f64::max);
    let values = || points().map(|(_, y)| y).chain(view.threshold);
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    let margin = ((high - low) * 0.05).max(high.abs().max(1.0) * 1e-3);
    let (low, high) = (low - margin, high + margin);
    let ends = view.threshold.map(|value| [(0.0, value), (right, value)]);
    let line = |data, colour| {
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(colour))
            .data(data)
    };
    let mut datasets = Vec::new();
    if let Some(ends) = &ends {
        datasets.push(line(ends, Color::DarkGray));
    }
    datasets.push(line(training, TRAINING));
    datasets.push(
        Dataset::default()
            .marker(Marker::Dot)
            .graph_type(GraphType::Scatter)
            .style(Style::new().fg(EVALUATION))
            .data(evaluations),
    );
    let middle = f64::midpoint(low, high);
    let steps = [0.0, right / 2.0, right].map(|steps| format::grouped(steps as u64));
    let chart = Chart::new(datasets)
        .block(section)
        .x_axis(
            Axis::default()
                .style(QUIET)
                .bounds([0.0, right])
                .labels(steps),
        )
        .y_axis(
            Axis::default()
                .style(QUIET)
                .bounds([low, high])
                .labels([low, middle, high].map(format::episode_return)),
        );
    frame.render_widget(chart, area);
}

/// Throughput, with its curve, and the figures of the run.
fn draw_facts(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let section = section(Line::styled("Throughput", TITLE));
    let inner = section.inner(area);
    frame.render_widget(section, area);
    let facts = text::facts(view);
    let curve_height = inner
        .height
        .saturating_sub(facts.len() as u16 + 1)
        .clamp(1, 5);
    let [rate, curve, below] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(curve_height),
        Constraint::Fill(1),
    ])
    .areas(inner);
    frame.render_widget(Line::raw(text::throughput(view)), rate);
    let rates = view.rate_curve(usize::from(curve.width));
    let bars: Vec<u64> = rates
        .iter()
        .map(|rate| rate.round().max(0.0) as u64)
        .collect();
    frame.render_widget(
        Sparkline::default()
            .data(bars)
            .style(Style::new().fg(TRAINING)),
        curve,
    );
    frame.render_widget(
        Paragraph::new(fact_lines(&facts, usize::from(below.width))),
        below,
    );
}

fn fact_lines(facts: &[Fact], width: usize) -> Vec<Line<'static>> {
    let names = facts.iter().map(|fact| fact.name.chars().count()).max();
    let name_width = names.unwrap_or(0) + 2;
    let line = |fact: &Fact| {
        let value: String = fact
            .value
            .chars()
            .take(width.saturating_sub(name_width))
            .collect();
        Line::from(vec![
            Span::styled(format!("{:name_width$}", fact.name), QUIET),
            Span::raw(value),
        ])
    };
    facts.iter().map(line).collect()
}

fn draw_stages(frame: &mut Frame<'_>, title: &str, stages: &[Share], view: &View, area: Rect) {
    let section = section(Line::styled(title.to_owned(), TITLE));
    let width = section.inner(area).width;
    let lines = stage_lines(stages, usize::from(width), text::no_stages(view));
    frame.render_widget(Paragraph::new(lines).block(section), area);
}

fn draw_actors(frame: &mut Frame<'_>, stages: &[Share], view: &View, area: Rect) {
    let section = section(Line::styled("Actors", TITLE));
    let width = usize::from(section.inner(area).width);
    let mut lines = stage_lines(stages, width, text::no_stages(view));
    lines.extend(fact_lines(&text::fleet(view), width));
    frame.render_widget(Paragraph::new(lines).block(section), area);
}

/// A bar for each stage.
fn stage_lines(stages: &[Share], width: usize, nothing: &'static str) -> Vec<Line<'static>> {
    if stages.is_empty() {
        return vec![Line::styled(nothing, QUIET)];
    }
    let room = width.saturating_sub(STAGE_NAME + STAGE_FIGURE + 1);
    let line = |share: &Share| {
        // What waits does nothing.
        let colour = if share.stage == "wait" {
            Color::DarkGray
        } else {
            Color::Blue
        };
        Line::from(vec![
            Span::raw(format!("{:STAGE_NAME$} ", share.stage)),
            Span::styled(bar(share.ratio, room), Style::new().fg(colour)),
            Span::raw(format!("{:>STAGE_FIGURE$}", format::percent(share.ratio))),
        ])
    };
    stages.iter().map(line).collect()
}

/// What limits the run and what looks sick.
fn verdict(view: &View) -> Text<'static> {
    let mut lines: Vec<Line<'static>> = Vec::new();
    for (sentence, is_sick) in text::verdict(view) {
        lines.push(if is_sick {
            Line::styled(sentence, Style::new().fg(Color::Red))
        } else {
            Line::raw(sentence)
        });
    }
    Text::from(lines)
}

fn footer(view: &View) -> Line<'static> {
    if let Some(question) = view.question {
        let style = Style::new().fg(Color::Yellow).bold();
        return Line::styled(format!(" {question} y: yes, any other key: no"), style);
    }
    let mut keys = " q quit".to_owned();
    if view.link == Link::Live {
        let is_paused = view
            .status
            .as_ref()
            .is_some_and(|status| status.state() == RunState::Paused);
        keys.push_str(if is_paused {
            "   p resume"
        } else {
            "   p pause"
        });
    }
    Line::styled(keys, QUIET)
}

#[cfg(test)]
mod tests;
