//! The map of an environment whose observations are the cells of a grid, for people who want to see
//! what a policy does where.

/// A grid of cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Cells of a row.
    pub num_columns: usize,
    /// All cells, row by row.
    pub cells: Vec<Cell>,
    /// Where each action leads, by its index.
    pub directions: [Direction; 4],
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// What is there.
    pub kind: CellKind,
    /// What is observed there, raw.
    pub observation: Vec<f32>,
}

/// What is in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellKind {
    /// Episodes begin here.
    Start,
    /// Nothing.
    Floor,
    /// Episodes end here, for nothing.
    Hole,
    /// Episodes end here, for the reward.
    Goal,
}

/// Where an action leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the previous row.
    Up,
    /// To the next column.
    Right,
    /// To the next row.
    Down,
    /// To the previous column.
    Left,
}

impl CellKind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Floor => "floor",
            Self::Hole => "hole",
            Self::Goal => "goal",
        }
    }

    /// Whether episodes end here, so that no action is ever chosen.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Hole | Self::Goal)
    }
}

impl Direction {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Right => "right",
            Self::Down => "down",
            Self::Left => "left",
        }
    }

    /// An arrow that points there.
    #[must_use]
    pub const fn arrow(self) -> char {
        match self {
            Self::Up => '↑',
            Self::Right => '→',
            Self::Down => '↓',
            Self::Left => '←',
        }
    }
}
