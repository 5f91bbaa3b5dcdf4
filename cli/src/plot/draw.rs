//! The picture itself.

use anyhow::Context as _;
use plotters::prelude::*;
use plotters::style::FontStyle;

use super::{Axis, Group, Picture};
use crate::format;

const SIZE: (u32, u32) = (900, 540);
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

/// Draws the picture as SVG.
///
/// # Errors
/// Where the drawing library refuses.
pub(super) fn svg(picture: &Picture) -> anyhow::Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(picture, &root)
            .map_err(|error| anyhow::anyhow!("{error}"))
            .context("cannot draw")?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type DrawResult = Result<(), Box<dyn std::error::Error>>;

fn draw(picture: &Picture, root: &Area<'_>) -> DrawResult {
    root.fill(&WHITE)?;
    let (x, y) = ranges(picture);
    let mut chart = ChartBuilder::on(root)
        .margin(16)
        .caption(
            &picture.title,
            (FONT, 22).into_font().style(FontStyle::Bold),
        )
        .x_label_area_size(46)
        .y_label_area_size(64)
        .build_cartesian_2d(x.clone(), y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .axis_style(BLACK.mix(0.4))
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .x_labels(8)
        .y_labels(8)
        .x_desc(match picture.axis {
            Axis::Steps => "environment steps",
            Axis::Time => "seconds of training",
        })
        .y_desc("mean return of the last 100 training episodes")
        .y_label_formatter(&|y| plain(*y))
        .x_label_formatter(&|x| match picture.axis {
            Axis::Steps => format::grouped(x.round().max(0.0) as u64),
            Axis::Time => plain(*x),
        })
        .draw()?;

    if let Some(threshold) = picture.threshold {
        let ends = [(x.start, threshold), (x.end, threshold)];
        let style = BLACK.mix(0.5).stroke_width(1);
        chart
            .draw_series(DashedLineSeries::new(ends, 6, 4, style))?
            .label(format!("solved at {threshold}"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    for (index, group) in picture.groups.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points = &group.summary.points;
        if group.curves.len() > 1 {
            for curve in &group.curves {
                let style = colour.mix(0.25).stroke_width(1);
                chart.draw_series(LineSeries::new(curve.points.iter().copied(), style))?;
            }
            let upper = points
                .iter()
                .map(|point| (point.x, point.mean + point.standard_error));
            let lower = points.iter().rev();
            let lower = lower.map(|point| (point.x, point.mean - point.standard_error));
            let band: Vec<_> = upper.chain(lower).collect();
            chart.draw_series([Polygon::new(band, colour.mix(0.2))])?;
        }
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(
                points.iter().map(|point| (point.x, point.mean)),
                style,
            ))?
            .label(group.label.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font((FONT, 14))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.15))
        .draw()?;
    root.present()?;
    Ok(())
}

/// A tick's number with two decimals at most, and none that say nothing.
fn plain(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The stretches of both axes, never empty.
fn ranges(picture: &Picture) -> (std::ops::Range<f64>, std::ops::Range<f64>) {
    let points = || {
        let curves = picture
            .groups
            .iter()
            .flat_map(|group: &Group| &group.curves);
        curves.flat_map(|curve| curve.points.iter().copied())
    };
    let right = points().map(|(x, _)| x).fold(0.0, f64::max);
    let values = || points().map(|(_, y)| y).chain(picture.threshold);
    let bottom = values().fold(f64::INFINITY, f64::min);
    let top = values().fold(f64::NEG_INFINITY, f64::max);
    let margin = ((top - bottom) * MARGIN).max(1e-3);
    (0.0..right.max(1e-9), bottom - margin..top + margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_have_no_idle_decimals() {
        for (value, text) in [
            (500.0, "500"),
            (0.1 + 0.2, "0.3"),
            (-12.25, "-12.25"),
            (0.0, "0"),
        ] {
            assert_eq!(plain(value), text);
        }
    }
}
