//! Pictures of native environments, for people: after how Gymnasium 1.4.0 draws those that it has.
//!
//! A picture shows what is observed and nothing else, so it is drawn from an observation.

use rookery_common::spaces::{EnvironmentSpec, Space};
use tiny_skia::{Color, FillRule, LineCap, Paint, PathBuilder, Pixmap, Rect, Stroke, Transform};

use super::{CellKind, Grid};

/// A picture of three bytes a pixel: red, green and blue, row by row from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `[height, width, 3]`.
    pub rgb: Vec<u8>,
}

/// Red, green and blue.
type Colour = [u8; 3];
/// A place, from the left and from the bottom.
type Point = (f32, f32);

const WHITE: Colour = [255, 255, 255];
const BLACK: Colour = [0, 0, 0];
const GREY: Colour = [128, 128, 128];
/// The side of a cell of a grid.
const CELL: u32 = 64;
/// The side of a pixel of planes.
const PIXEL: u32 = 24;
/// What the planes of an image are drawn in, and again from the first where there are more.
const PLANE_COLOURS: [Colour; 6] = [
    [76, 175, 80],
    [33, 150, 243],
    [13, 71, 161],
    [244, 67, 54],
    [255, 193, 7],
    [156, 39, 176],
];

/// Draws what is observed in the environment of this spec; none where nobody has said how.
pub(super) fn draw(
    spec: &EnvironmentSpec,
    observation: &[f32],
    grid: Option<&Grid>,
) -> Option<Frame> {
    if let Some(grid) = grid {
        return draw_grid(grid, observation);
    }
    match (spec.id.as_str(), observation) {
        ("CartPole-v1", [position, _, angle, _]) | ("CartPoleNoVelocity-v1", [position, angle]) => {
            draw_cart_pole(*position, *angle)
        }
        ("MountainCar-v0" | "MountainCarContinuous-v0", [position, _]) => {
            let goal = if spec.id == "MountainCar-v0" {
                0.5
            } else {
                0.45
            };
            draw_mountain_car(*position, goal)
        }
        ("Pendulum-v1", [cosine, sine, _]) => draw_pendulum(*cosine, *sine),
        ("Acrobot-v1", [cosine_1, sine_1, cosine_2, sine_2, _, _]) => {
            let turn = |cosine: f32, sine: f32| libm::atan2f(sine, cosine);
            draw_acrobot(turn(*cosine_1, *sine_1), turn(*cosine_2, *sine_2))
        }
        _ => draw_planes(&spec.observation, observation),
    }
}

fn draw_cart_pole(position: f32, angle: f32) -> Option<Frame> {
    // Four metres and eight tenths across.
    const SCALE: f32 = 600.0 / 4.8;
    let mut canvas = Canvas::new(600, 400, WHITE)?;
    let (x, y) = (position * SCALE + 300.0, 100.0);
    canvas.line((0.0, y), (600.0, y), 1.0, BLACK);
    canvas.rectangle((x - 25.0, y - 15.0), (x + 25.0, y + 15.0), BLACK);
    let axle = (x, y + 7.5);
    let corners = [
        (-5.0, -5.0),
        (-5.0, SCALE - 5.0),
        (5.0, SCALE - 5.0),
        (5.0, -5.0),
    ];
    canvas.polygon(
        &corners.map(|corner| moved(turned(corner, -angle), axle)),
        [202, 152, 101],
    );
    canvas.circle(axle, 5.0, [129, 132, 203]);
    Some(canvas.into_frame())
}

fn draw_mountain_car(position: f32, goal: f32) -> Option<Frame> {
    const LEFT: f32 = -1.2;
    const SCALE: f32 = 600.0 / 1.8;
    const CLEARANCE: f32 = 10.0;
    let height = |x: f32| libm::sinf(3.0 * x) * 0.45 + 0.55;
    let on_hill = |x: f32| ((x - LEFT) * SCALE, height(x) * SCALE);
    let mut canvas = Canvas::new(600, 400, WHITE)?;
    let hill: Vec<Point> = (0..=100)
        .map(|i| on_hill(LEFT + 1.8 * i as f32 / 100.0))
        .collect();
    for pair in hill.windows(2) {
        canvas.line(pair[0], pair[1], 1.0, BLACK);
    }
    let slope = libm::cosf(3.0 * position);
    let place = moved(on_hill(position), (0.0, CLEARANCE));
    let body = [(-20.0, 0.0), (-20.0, 20.0), (20.0, 20.0), (20.0, 0.0)];
    canvas.polygon(
        &body.map(|corner| moved(turned(corner, slope), place)),
        BLACK,
    );
    for wheel in [(10.0, 0.0), (-10.0, 0.0)] {
        canvas.circle(moved(turned(wheel, slope), place), 8.0, GREY);
    }
    let foot = on_hill(goal);
    let top = moved(foot, (0.0, 50.0));
    canvas.line(foot, top, 1.0, BLACK);
    let flag = [top, moved(top, (0.0, -10.0)), moved(top, (25.0, -5.0))];
    canvas.polygon(&flag, [204, 204, 0]);
    Some(canvas.into_frame())
}

fn draw_pendulum(cosine: f32, sine: f32) -> Option<Frame> {
    const SCALE: f32 = 500.0 / 4.4;
    const MIDDLE: Point = (250.0, 250.0);
    let mut canvas = Canvas::new(500, 500, WHITE)?;
    let red = [204, 77, 77];
    let end = moved(MIDDLE, (-sine * SCALE, cosine * SCALE));
    canvas.line(MIDDLE, end, 0.2 * SCALE, red);
    for joint in [MIDDLE, end] {
        canvas.circle(joint, 0.1 * SCALE, red);
    }
    canvas.circle(MIDDLE, 0.05 * SCALE, BLACK);
    Some(canvas.into_frame())
}

fn draw_acrobot(angle_1: f32, angle_2: f32) -> Option<Frame> {
    const SCALE: f32 = 500.0 / 4.4;
    const MIDDLE: Point = (250.0, 250.0);
    let mut canvas = Canvas::new(500, 500, WHITE)?;
    let height = MIDDLE.1 + SCALE;
    canvas.line((0.0, height), (500.0, height), 1.0, BLACK);
    let down = |angle: f32| (libm::sinf(angle) * SCALE, -libm::cosf(angle) * SCALE);
    let elbow = moved(MIDDLE, down(angle_1));
    let tip = moved(elbow, down(angle_1 + angle_2));
    for (from, to) in [(MIDDLE, elbow), (elbow, tip)] {
        canvas.line(from, to, 0.2 * SCALE, [0, 204, 204]);
        canvas.circle(from, 0.1 * SCALE, [204, 204, 0]);
    }
    Some(canvas.into_frame())
}

/// The cells, and the agent in the one that is observed.
fn draw_grid(grid: &Grid, observation: &[f32]) -> Option<Frame> {
    let columns = grid.num_columns as u32;
    let rows = grid.cells.len() as u32 / columns;
    let mut canvas = Canvas::new(columns * CELL, rows * CELL, WHITE)?;
    let side = CELL as f32;
    for (index, cell) in grid.cells.iter().enumerate() {
        let (row, column) = (index as u32 / columns, index as u32 % columns);
        let corner = ((column * CELL) as f32, ((rows - 1 - row) * CELL) as f32);
        let colour = match cell.kind {
            CellKind::Start => [200, 230, 201],
            CellKind::Floor => [225, 238, 246],
            CellKind::Hole => [66, 84, 102],
            CellKind::Goal => [255, 213, 79],
        };
        let inset = moved(corner, (1.0, 1.0));
        canvas.rectangle(inset, moved(corner, (side - 1.0, side - 1.0)), colour);
        if cell.observation == observation {
            let middle = moved(corner, (side / 2.0, side / 2.0));
            canvas.circle(middle, side * 0.3, [211, 47, 47]);
        }
    }
    Some(canvas.into_frame())
}

/// Planes over one another, the first on top.
fn draw_planes(space: &Space, observation: &[f32]) -> Option<Frame> {
    let [_, rows, columns] = match space {
        Space::Box { shape, .. } => shape.as_slice().try_into().ok()?,
        Space::Frames { .. } | Space::Discrete { .. } | Space::MultiDiscrete { .. } => {
            space.image()?
        }
    };
    let mut canvas = Canvas::new(columns as u32 * PIXEL, rows as u32 * PIXEL, BLACK)?;
    let side = PIXEL as f32;
    let planes = observation.chunks(rows * columns).enumerate();
    for (plane, values) in planes.collect::<Vec<_>>().into_iter().rev() {
        for (index, value) in values.iter().enumerate().filter(|(_, value)| **value > 0.0) {
            let (row, column) = (index / columns, index % columns);
            let corner = (column as f32 * side, (rows - 1 - row) as f32 * side);
            let shade = |part: u8| (f32::from(part) * value.min(1.0)) as u8;
            let colour = PLANE_COLOURS[plane % PLANE_COLOURS.len()].map(shade);
            canvas.rectangle(corner, moved(corner, (side, side)), colour);
        }
    }
    Some(canvas.into_frame())
}

fn moved(point: Point, by: Point) -> Point {
    (point.0 + by.0, point.1 + by.1)
}

/// Turned around the origin, anticlockwise.
fn turned((x, y): Point, angle: f32) -> Point {
    let (sine, cosine) = libm::sincosf(angle);
    (x * cosine - y * sine, x * sine + y * cosine)
}

/// Draws with the origin at the lower left, as Gymnasium does.
struct Canvas {
    pixels: Pixmap,
    upright: Transform,
}

impl Canvas {
    fn new(width: u32, height: u32, background: Colour) -> Option<Self> {
        let mut pixels = Pixmap::new(width, height)?;
        let [red, green, blue] = background;
        pixels.fill(Color::from_rgba8(red, green, blue, 255));
        let upright = Transform::from_row(1.0, 0.0, 0.0, -1.0, 0.0, height as f32);
        Some(Self { pixels, upright })
    }

    fn polygon(&mut self, corners: &[Point], colour: Colour) {
        let mut path = PathBuilder::new();
        for (index, (x, y)) in corners.iter().enumerate() {
            if index == 0 {
                path.move_to(*x, *y);
            } else {
                path.line_to(*x, *y);
            }
        }
        path.close();
        self.fill(path, colour);
    }

    fn circle(&mut self, (x, y): Point, radius: f32, colour: Colour) {
        let mut path = PathBuilder::new();
        path.push_circle(x, y, radius);
        self.fill(path, colour);
    }

    fn rectangle(&mut self, low: Point, high: Point, colour: Colour) {
        // What cannot be a rectangle has no area either.
        if let Some(rectangle) = Rect::from_ltrb(low.0, low.1, high.0, high.1) {
            let (paint, upright) = (paint(colour), self.upright);
            self.pixels.fill_rect(rectangle, &paint, upright, None);
        }
    }

    fn line(&mut self, from: Point, to: Point, width: f32, colour: Colour) {
        let mut path = PathBuilder::new();
        path.move_to(from.0, from.1);
        path.line_to(to.0, to.1);
        let stroke = Stroke {
            width,
            line_cap: LineCap::Butt,
            ..Stroke::default()
        };
        if let Some(path) = path.finish() {
            let (paint, upright) = (paint(colour), self.upright);
            self.pixels
                .stroke_path(&path, &paint, &stroke, upright, None);
        }
    }

    fn fill(&mut self, path: PathBuilder, colour: Colour) {
        if let Some(path) = path.finish() {
            let (paint, upright) = (paint(colour), self.upright);
            self.pixels
                .fill_path(&path, &paint, FillRule::Winding, upright, None);
        }
    }

    /// The picture. Nothing is transparent, so the colours are what was drawn.
    fn into_frame(self) -> Frame {
        let (width, height) = (self.pixels.width(), self.pixels.height());
        let rgba = self.pixels.data().chunks_exact(4);
        Frame {
            width,
            height,
            rgb: rgba
                .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
                .collect(),
        }
    }
}

fn paint(colour: Colour) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(colour[0], colour[1], colour[2], 255);
    paint
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rookery_common::seeds::{Purpose, Random};
    use rookery_common::wrappers::{StackPadding, Wrapper};

    use super::*;
    use crate::environments::{ids, make, wrap};

    impl Frame {
        fn pixel(&self, from_left: u32, from_top: u32) -> Colour {
            let at = 3 * (from_top * self.width + from_left) as usize;
            [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
        }
    }

    #[test]
    fn every_environment_but_the_abstract_ones_draws_what_is_observed() {
        let invisible = ["BitFlip-v0", "PointReach-v0", "TMaze-v0"];
        for id in ids() {
            let mut batch = make(id, &BTreeMap::new(), 2).unwrap();
            let mut observation = vec![0.0; batch.spec().observation.width()];
            let mut draw = |index: usize, episode| {
                let random = Random::derive(1, Purpose::Episode, 0, episode);
                batch.reset(index, random, &mut observation).unwrap();
                batch.render(index).unwrap()
            };
            let [first, again] = [draw(0, 0), draw(1, 0)];
            assert_eq!(first, again, "{id}");
            assert_eq!(first.is_none(), invisible.contains(&id), "{id}");
            let Some(frame) = first else { continue };
            assert_eq!(frame.rgb.len() as u32, frame.width * frame.height * 3);
            let others = (1..20).filter_map(|episode| draw(0, episode));
            let varies = others.into_iter().any(|other| other != frame);
            let starts_in_one_cell = ["FrozenLake-v1", "GridWorld-v0"].contains(&id);
            assert_eq!(varies, !starts_in_one_cell, "{id}");
        }
    }

    #[test]
    fn things_are_where_gymnasium_draws_them() {
        let cart = draw_cart_pole(0.0, 0.0).unwrap();
        assert_eq!((cart.width, cart.height), (600, 400));
        assert_eq!(cart.pixel(300, 310), BLACK, "the cart");
        assert_eq!(cart.pixel(300, 200), [202, 152, 101], "the pole");
        assert_eq!(cart.pixel(300, 160), WHITE, "above the pole");
        let leaning = draw_cart_pole(1.0, 0.2).unwrap();
        assert_eq!(leaning.pixel(425, 310), BLACK, "a metre to the right");
        assert_eq!(
            leaning.pixel(443, 203),
            [202, 152, 101],
            "a positive angle leans right"
        );

        let pendulum = draw_pendulum(1.0, 0.0).unwrap();
        assert_eq!(pendulum.pixel(250, 150), [204, 77, 77], "zero is upright");
        assert_eq!(pendulum.pixel(250, 350), WHITE);
        let left = draw_pendulum(0.0, 1.0).unwrap();
        assert_eq!(
            left.pixel(150, 250),
            [204, 77, 77],
            "a positive angle is to the left"
        );

        let hanging = draw_acrobot(0.0, 0.0).unwrap();
        assert_eq!(hanging.pixel(250, 300), [0, 204, 204], "zero hangs down");
        assert_eq!(hanging.pixel(250, 450), [0, 204, 204]);
        assert!(hanging.pixel(20, 136)[0] < 64, "the height to reach");

        let car = draw_mountain_car(-0.5, 0.5).unwrap();
        assert_eq!(car.pixel(233, 355), BLACK, "the car in the valley");
        assert_eq!(car.pixel(570, 23), [204, 204, 0], "the flag");
    }

    #[test]
    fn a_wrapped_environment_looks_as_it_does_inside() {
        let stack = Wrapper::FrameStack {
            size: 2,
            padding: StackPadding::Zero,
        };
        let mut bare = make("Catch-v0", &BTreeMap::new(), 1).unwrap();
        let inside = bare.render(0).unwrap();
        assert!(inside.is_some());
        assert_eq!(wrap(bare, &[stack]).unwrap().render(0).unwrap(), inside);
    }
}
