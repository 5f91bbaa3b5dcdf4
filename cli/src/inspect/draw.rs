//! What is known about places, as text: a grid of cells, or a table with a line for each place.

use rookery_actor::environments::{CellKind, Grid};

use super::knowledge::{Knowledge, Place, Quantity};
use crate::format;

/// Marks a place where no action is better than another.
const NO_PREFERENCE: char = '·';

/// The cells as they lie: what is there and what it is worth, and below it where the policy goes and,
/// where it is stochastic, how surely.
pub(super) fn map(grid: &Grid, knowledge: &Knowledge) -> String {
    let rows: Vec<[String; 2]> = grid
        .cells
        .iter()
        .zip(&knowledge.places)
        .map(|(cell, place)| {
            [
                worth(cell.kind, place),
                preference(grid, cell.kind, place, knowledge.quantity),
            ]
        })
        .collect();
    let width = rows.iter().flatten().map(|text| text.chars().count()).max();
    let width = width.unwrap_or(0);
    let border = format!(
        "+{}\n",
        format!("{}+", "-".repeat(width + 2)).repeat(grid.num_columns)
    );
    let mut text = border.clone();
    for row in rows.chunks(grid.num_columns) {
        for line in 0..2 {
            let cells: Vec<String> = row
                .iter()
                .map(|cell| format!("| {:<width$} ", cell[line]))
                .collect();
            text.push_str(&cells.concat());
            text.push_str("|\n");
        }
        text.push_str(&border);
    }
    text
}

fn worth(kind: CellKind, place: &Place) -> String {
    let mark = match kind {
        CellKind::Start => 'S',
        CellKind::Floor => ' ',
        CellKind::Hole => 'H',
        CellKind::Goal => 'G',
    };
    match place.value.filter(|_| !kind.is_terminal()) {
        None => mark.to_string(),
        Some(value) => format!("{mark} {:>6}", number(value)),
    }
}

fn preference(grid: &Grid, kind: CellKind, place: &Place, quantity: Quantity) -> String {
    if kind.is_terminal() {
        return String::new();
    }
    let Some(action) = place.preferred() else {
        return format!("{NO_PREFERENCE}");
    };
    let arrow = grid
        .directions
        .get(action)
        .map_or('?', |direction| direction.arrow());
    match quantity {
        Quantity::ActionValues => arrow.to_string(),
        Quantity::ActionProbabilities => {
            format!("{arrow} {:>6}", number(place.actions[action]))
        }
    }
}

/// A line for each place with the number of every action.
pub(super) fn table(knowledge: &Knowledge) -> String {
    let num_actions = knowledge
        .places
        .first()
        .map_or(0, |place| place.actions.len());
    let grid = knowledge.grid.as_ref();
    let mut heading: Vec<String> = match grid {
        Some(_) => vec!["cell".to_owned(), "is".to_owned()],
        None => vec!["observation".to_owned()],
    };
    heading.push("value".to_owned());
    heading.extend((0..num_actions).map(|action| action_name(grid, action)));
    heading.push("preferred".to_owned());
    let mut rows = vec![heading];
    for (index, place) in knowledge.places.iter().enumerate() {
        let mut row = match grid {
            Some(grid) => {
                let (row, column) = (index / grid.num_columns, index % grid.num_columns);
                vec![
                    format!("({row}, {column})"),
                    grid.cells[index].kind.name().to_owned(),
                ]
            }
            None => vec![index.to_string()],
        };
        let number = |value: f64| format!("{:>6}", number(value));
        row.push(place.value.map_or_else(|| "-".to_owned(), number));
        row.extend(place.actions.iter().map(|value| number(*value)));
        row.push(
            place
                .preferred()
                .map_or_else(|| "-".to_owned(), |action| action_name(grid, action)),
        );
        rows.push(row);
    }
    format::table(&rows)
}

/// What an action is called.
pub(super) fn action_name(grid: Option<&Grid>, action: usize) -> String {
    grid.and_then(|grid| grid.directions.get(action))
        .map_or_else(
            || format!("action {action}"),
            |direction| direction.name().to_owned(),
        )
}

/// A number with three decimals, or fewer where it is large.
fn number(value: f64) -> String {
    match value.abs() {
        size if size < 100.0 => format!("{value:.3}"),
        size if size < 1e5 => format!("{value:.1}"),
        _ => format!("{value:.0e}"),
    }
}
