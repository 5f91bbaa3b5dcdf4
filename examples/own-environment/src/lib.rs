//! `Shop-v0`: order goods every day, so that customers find them and few stand about.
//!
//! In the morning what was ordered the day before is put on the shelf, which holds 20 pieces; what finds no
//! place is lost. Then each of 12 neighbours comes with a probability that depends on the weekday, and buys
//! one piece if there is one. Action: pieces to order (0 to 10). A piece sold earns 1, a piece ordered costs
//! 0.5, a piece left over in the evening costs 0.05. An episode has 28 days, begins on any weekday with any
//! stock, and is cut short, not ended: the shop goes on.
//!
//! The observation is `[stock / 20, arriving / 10, is it Monday, .., is it Sunday]`. The argument
//! `neighbours` says how many there are.

use rookery_actor::environments::{
    Arguments, Environment, EnvironmentError, Environments, Frame, Step,
};
use rookery_common::seeds::Random;
use rookery_common::spaces::Space;
use serde::{Deserialize, Serialize};

/// Pieces for which the shelf has room.
pub const SHELF: usize = 20;
/// Most pieces that can be ordered at once.
pub const MAX_ORDER: usize = 10;
/// Probabilities that a neighbour comes, from Monday to Sunday.
pub const VISITS: [f64; DAYS] = [0.25, 0.25, 0.25, 0.25, 0.5, 0.75, 0.0];
/// What a piece sold earns.
pub const PRICE: f32 = 1.0;
/// What a piece ordered costs.
pub const COST: f32 = 0.5;
/// What a piece left over costs for a night.
pub const KEEPING: f32 = 0.05;
/// Customers, unless the argument says otherwise.
pub const NEIGHBOURS: u32 = 12;
/// Days of a week.
pub const DAYS: usize = 7;
/// Days of an episode.
pub const EPISODE: u32 = 28;

/// The environments of this program.
pub fn environments() -> Environments {
    Environments::default().with("Shop-v0", Shop::new)
}

/// The rules.
#[derive(Clone, Copy, Debug)]
pub struct Shop {
    neighbours: u32,
}

/// A morning before the shop opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Morning {
    /// Pieces on the shelf.
    pub stock: usize,
    /// Pieces that were ordered the day before.
    pub arriving: usize,
    /// 0 is Monday.
    pub weekday: usize,
    /// Decides who comes, from here to the episode's end.
    pub random: Random,
}

impl Default for Shop {
    fn default() -> Self {
        Self {
            neighbours: NEIGHBOURS,
        }
    }
}

impl Shop {
    /// Reads the arguments.
    ///
    /// # Errors
    /// Where one cannot be used.
    pub fn new(arguments: &mut Arguments<'_>) -> Result<Self, EnvironmentError> {
        Ok(Self {
            neighbours: arguments.whole_number("neighbours", NEIGHBOURS, 1..=1000)?,
        })
    }
}

impl Environment for Shop {
    type State = Morning;

    fn observation_space(&self) -> Space {
        Space::bounded(&[0.0; 2 + DAYS], &[1.0; 2 + DAYS])
    }

    fn action_space(&self) -> Space {
        Space::Discrete { n: MAX_ORDER + 1 }
    }

    fn max_episode_steps(&self) -> Option<u32> {
        Some(EPISODE)
    }

    fn reset(&self, mut random: Random) -> Morning {
        Morning {
            stock: random.below(SHELF as u64 + 1) as usize,
            arriving: 0,
            weekday: random.below(DAYS as u64) as usize,
            random,
        }
    }

    fn step(&self, morning: &mut Morning, action: &[f32]) -> Step {
        let order = action[0] as usize;
        let stock = (morning.stock + morning.arriving).min(SHELF);
        let visit = VISITS[morning.weekday];
        let visitors = (0..self.neighbours)
            .filter(|_| morning.random.unit_f64() < visit)
            .count();
        let sold = stock.min(visitors);
        morning.stock = stock - sold;
        morning.arriving = order;
        morning.weekday = (morning.weekday + 1) % DAYS;
        let reward = PRICE * sold as f32 - COST * order as f32 - KEEPING * morning.stock as f32;
        Step::new(reward, false)
    }

    fn observe(&self, morning: &Morning, observation: &mut [f32]) {
        observation.fill(0.0);
        observation[0] = morning.stock as f32 / SHELF as f32;
        observation[1] = morning.arriving as f32 / MAX_ORDER as f32;
        observation[2 + morning.weekday] = 1.0;
    }

    fn is_possible(&self, morning: &Morning) -> bool {
        morning.stock <= SHELF && morning.arriving <= MAX_ORDER && morning.weekday < DAYS
    }

    /// A row of squares each for the shelf, what arrives, and the week.
    fn render(&self, morning: &Morning) -> Option<Frame> {
        const SQUARE: usize = 16;
        const EMPTY: [u8; 3] = [224, 224, 224];
        let width = SHELF * SQUARE;
        let mut rgb = vec![255; 3 * SQUARE * width * 3];
        let rows = [
            (SHELF, 0..morning.stock, [76, 175, 80]),
            (MAX_ORDER, 0..morning.arriving, [33, 150, 243]),
            (DAYS, morning.weekday..morning.weekday + 1, [244, 67, 54]),
        ];
        for (row, (squares, full, colour)) in rows.into_iter().enumerate() {
            for square in 0..squares {
                let colour = if full.contains(&square) {
                    colour
                } else {
                    EMPTY
                };
                for y in 1..SQUARE - 1 {
                    let begin = ((row * SQUARE + y) * width + square * SQUARE + 1) * 3;
                    let pixels = &mut rgb[begin..begin + (SQUARE - 2) * 3];
                    for pixel in pixels.chunks_exact_mut(3) {
                        pixel.copy_from_slice(&colour);
                    }
                }
            }
        }
        Some(Frame {
            width: width as u32,
            height: 3 * SQUARE as u32,
            rgb,
        })
    }
}
