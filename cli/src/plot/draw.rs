//! The picture itself.

use std::ops::Range;

use anyhow::Context as _;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontStyle;

use super::{Axis, EVALUATION_RETURN, MEAN_RETURN, Panel, Picture};
use crate::format;

/// Of a single panel.
const SIZE: (u32, u32) = (900, 540);
/// Of one of several, which stand beside each other from this many on.
const PANEL_HEIGHT: u32 = 320;
const MAX_COLUMN: usize = 3;
const FONT: &str = "sans-serif";
/// Colours that people of any colour vision tell apart (Okabe and Ito 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(110, 110, 110),
];
/// Share of the height that stays free above and below the curves.
const MARGIN: f64 = 0.05;
/// Ticks of an axis, about.
const TICKS: usize = 8;

/// Draws the picture as SVG.
///
/// # Errors
/// Where the drawing library refuses.
pub(super) fn svg(picture: &Picture) -> anyhow::Result<String> {
    let count = picture.panels.len();
    let columns = if count > MAX_COLUMN { 2 } else { 1 };
    let rows = count.div_ceil(columns);
    let size = match count {
        1 => SIZE,
        _ => (SIZE.0 * columns as u32, PANEL_HEIGHT * rows as u32 + 40),
    };
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(picture, &root, (rows, columns))
            .map_err(|error| anyhow::anyhow!("{error}"))
            .context("cannot draw")?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type DrawResult = Result<(), Box<dyn std::error::Error>>;

fn draw(picture: &Picture, root: &Area<'_>, cells: (usize, usize)) -> DrawResult {
    root.fill(&WHITE)?;
    let root = root.margin(10, 6, 6, 16);
    let title = (FONT, 22).into_font().style(FontStyle::Bold);
    let below = root.titled(&picture.title, title)?;
    let horizontal = Horizontal::of(picture);
    for (panel, area) in picture.panels.iter().zip(below.split_evenly(cells)) {
        draw_panel(panel, &horizontal, &area)?;
    }
    root.present()?;
    Ok(())
}

/// The horizontal axis, which all panels share.
struct Horizontal {
    /// In what it counts.
    right: f64,
    /// What one of `unit` is in what points count.
    divisor: f64,
    unit: &'static str,
}

impl Horizontal {
    fn of(picture: &Picture) -> Self {
        let groups = picture.panels.iter().flat_map(|panel| &panel.groups);
        let points = groups
            .flat_map(|group| &group.curves)
            .flat_map(|curve| &curve.points);
        let right = points.map(|(x, _)| *x).fold(0.0, f64::max).max(1e-9);
        let (divisor, unit) = match picture.axis {
            Axis::Steps if right >= 1e7 => (1e6, "million environment steps"),
            Axis::Steps => (1.0, "environment steps"),
            Axis::Time if right >= 10_800.0 => (3600.0, "hours of training"),
            Axis::Time if right >= 600.0 => (60.0, "minutes of training"),
            Axis::Time => (1.0, "seconds of training"),
        };
        Self {
            right: right / divisor,
            divisor,
            unit,
        }
    }
}

fn draw_panel(panel: &Panel, horizontal: &Horizontal, area: &Area<'_>) -> DrawResult {
    let across = 0.0..horizontal.right;
    let up = vertical(panel);
    let (x_decimals, y_decimals) = (decimals(&across), decimals(&up));
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .x_label_area_size(46)
        .y_label_area_size(72)
        .build_cartesian_2d(across.clone(), up.clone())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .axis_style(BLACK.mix(0.4))
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .x_labels(TICKS)
        .y_labels(TICKS)
        .x_desc(horizontal.unit)
        .y_desc(described(&panel.metric))
        .y_label_formatter(&|y| tick(*y, y_decimals))
        .x_label_formatter(&|x| tick(*x, x_decimals))
        .draw()?;
    let scaled = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        let points = points.iter();
        points.map(|(x, y)| (x / horizontal.divisor, *y)).collect()
    };

    if let Some(threshold) = panel.threshold {
        let ends = [(across.start, threshold), (across.end, threshold)];
        let style = BLACK.mix(0.5).stroke_width(1);
        chart
            .draw_series(DashedLineSeries::new(ends, 6, 4, style))?
            .label(format!("solved at {threshold}"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    for (index, group) in panel.groups.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let at = |value: fn(f64, f64) -> f64| {
            let points = group.summary.points.iter();
            let points = points.map(|point| (point.x, value(point.mean, point.standard_error)));
            scaled(&points.collect::<Vec<_>>())
        };
        let is_mean = group.curves.len() > 1;
        if is_mean {
            for curve in &group.curves {
                let style = colour.mix(0.25).stroke_width(1);
                chart.draw_series(LineSeries::new(scaled(&curve.points), style))?;
            }
            let upper = at(|mean, error| mean + error);
            let lower = at(|mean, error| mean - error).into_iter().rev();
            let band: Vec<_> = upper.into_iter().chain(lower).collect();
            chart.draw_series([Polygon::new(band, colour.mix(0.25))])?;
        }
        let style = colour.stroke_width(2);
        let label = if is_mean {
            format!("{}: mean and standard error", group.label)
        } else {
            group.label.clone()
        };
        chart
            .draw_series(LineSeries::new(at(|mean, _| mean), style))?
            .label(label)
            .legend(move |(x, y)| {
                let band = if is_mean {
                    colour.mix(0.25)
                } else {
                    colour.mix(0.0)
                };
                EmptyElement::at((x, y))
                    + Rectangle::new([(0, -5), (20, 5)], band.filled())
                    + PathElement::new([(0, 0), (20, 0)], style)
            });
    }
    chart
        .configure_series_labels()
        .position(emptiest(panel, horizontal, &up))
        .label_font((FONT, 14))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.15))
        .draw()?;
    Ok(())
}

/// What a metric is called on its axis.
fn described(metric: &str) -> String {
    match metric {
        MEAN_RETURN => "mean return of the last 100 training episodes".to_owned(),
        EVALUATION_RETURN => "mean return of evaluations".to_owned(),
        "mean_length" => "mean length of the last 100 training episodes, steps".to_owned(),
        "seconds" => "seconds of training".to_owned(),
        _ => metric.replace('_', " "),
    }
}

/// The decimals that tell the ticks of an axis apart.
fn decimals(range: &Range<f64>) -> usize {
    let step = (range.end - range.start) / TICKS as f64;
    // One more than the step has, for steps of a quarter; idle ones are not written.
    (1.0 - step.log10()).ceil().clamp(0.0, 12.0) as usize
}

/// A tick's number, with commas between groups of three digits.
fn tick(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let mut number = whole
        .parse()
        .map_or_else(|_| whole.to_owned(), format::grouped);
    let part = part.trim_end_matches('0');
    if !part.is_empty() {
        number = format!("{number}.{part}");
    }
    if value < 0.0 && number != "0" {
        number.insert(0, '\u{2212}');
    }
    number
}

/// The stretch of the vertical axis, never empty.
fn vertical(panel: &Panel) -> Range<f64> {
    let curves = || panel.groups.iter().flat_map(|group| &group.curves);
    let values = || {
        let values = curves().flat_map(|curve| curve.points.iter().map(|(_, y)| *y));
        values.chain(panel.threshold)
    };
    let bottom = values().fold(f64::INFINITY, f64::min);
    let top = values().fold(f64::NEG_INFINITY, f64::max);
    let margin = ((top - bottom) * MARGIN).max(top.abs().max(1.0) * 1e-6);
    bottom - margin..top + margin
}

/// The corner with the fewest points, in which the legend hides least.
fn emptiest(panel: &Panel, horizontal: &Horizontal, up: &Range<f64>) -> SeriesLabelPosition {
    let curves = panel.groups.iter().flat_map(|group| &group.curves);
    let mut counts = [0; 4];
    for (x, y) in curves.flat_map(|curve| &curve.points) {
        let is_right = x / horizontal.divisor > horizontal.right / 2.0;
        let is_upper = *y > f64::midpoint(up.start, up.end);
        counts[usize::from(is_right) + 2 * usize::from(is_upper)] += 1;
    }
    let corners = [
        (counts[1], SeriesLabelPosition::LowerRight),
        (counts[3], SeriesLabelPosition::UpperRight),
        (counts[2], SeriesLabelPosition::UpperLeft),
        (counts[0], SeriesLabelPosition::LowerLeft),
    ];
    let least = corners.into_iter().min_by_key(|(count, _)| *count);
    least.map_or(SeriesLabelPosition::LowerRight, |(_, corner)| corner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_have_the_decimals_that_their_axis_needs() {
        for (value, range, text) in [
            (500.0, 0.0..520.0, "500"),
            (0.3, 0.0..1.2, "0.3"),
            (-12.25, -14.0..-12.0, "\u{2212}12.25"),
            (-1500.0, -1600.0..0.0, "\u{2212}1,500"),
            (0.0003, 0.0..0.001, "0.0003"),
            (-0.0, -1.0..1.0, "0"),
            (250_000.0, 0.0..500_000.0, "250,000"),
        ] {
            assert_eq!(tick(value, decimals(&range)), text);
        }
    }
}
