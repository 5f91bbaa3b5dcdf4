//! `PointReach-v0`: move a point in the square `[-1, 1] x [-1, 1]` to a goal and stay there.
//!
//! The action, in `[-1, 1] x [-1, 1]` and clipped to it, is the velocity: the point moves by a tenth
//! of it and stays in the square. The observation is `[x, y, goal x, goal y]`, so the position is the
//! achieved goal. A step after which the point is within 0.05 of the goal gives 0, every other one
//! gives -1; episodes do not terminate and last 50 steps. Point and goal start anywhere in the
//! square. It is a robot's reaching task in the smallest form and has no counterpart in Gymnasium.

use rookery_common::seeds::Random;
use rookery_common::spaces::{GoalSpec, Space};

use super::arguments::Arguments;
use super::batch::{Batch, Rules, Step};
use super::{BatchedEnvironment, EnvironmentError};

/// Distance of one step in each direction at full velocity.
const STEP_LENGTH: f32 = 0.1;
const TOLERANCE: f32 = 0.05;
const MAX_EPISODE_STEPS: u32 = 50;

pub(super) fn make(
    arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let mut spec = arguments.into_spec(
        Space::bounded(&[-1.0; 4], &[1.0; 4]),
        Space::bounded(&[-1.0; 2], &[1.0; 2]),
        MAX_EPISODE_STEPS,
    )?;
    let goal = GoalSpec {
        achieved: 0..2,
        desired: 2..4,
        tolerance: TOLERANCE,
        terminates: false,
    };
    spec.goal = Some(goal.clone());
    let rules = PointReach { goal };
    Ok(Box::new(Batch::with_rules(spec, rules, num_envs)))
}

/// The rules; the state is the observation.
#[derive(Debug)]
struct PointReach {
    goal: GoalSpec,
}

impl Rules for PointReach {
    type State = [f32; 4];

    #[inline]
    fn observation_width(&self) -> usize {
        4
    }

    #[inline]
    fn action_width(&self) -> usize {
        2
    }

    fn begin(&self, mut random: Random) -> Self::State {
        std::array::from_fn(|_| random.uniform(-1.0, 1.0) as f32)
    }

    #[inline]
    fn advance(&self, state: &mut Self::State, action: &[f32]) -> Step {
        let (position, goal) = state.split_at_mut(2);
        for (coordinate, velocity) in position.iter_mut().zip(action) {
            *coordinate = (*coordinate + STEP_LENGTH * velocity.clamp(-1.0, 1.0)).clamp(-1.0, 1.0);
        }
        Step::new(self.goal.reward(position, goal), false)
    }

    #[inline]
    fn observe(&self, state: &Self::State, row: &mut [f32]) {
        row.copy_from_slice(state);
    }

    fn is_possible(&self, state: &Self::State) -> bool {
        state.iter().all(|value| value.abs() <= 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> PointReach {
        PointReach {
            goal: GoalSpec {
                achieved: 0..2,
                desired: 2..4,
                tolerance: TOLERANCE,
                terminates: false,
            },
        }
    }

    #[test]
    fn actions_are_clipped_and_the_point_stays_in_the_square() {
        let mut state = [0.95, 0.0, 0.5, 0.5];
        assert_eq!(
            rules().advance(&mut state, &[7.0, -7.0]),
            Step::new(-1.0, false)
        );
        assert_eq!(state, [1.0, -0.1, 0.5, 0.5]);
    }

    #[test]
    fn staying_at_the_goal_costs_nothing() {
        let mut state = [0.0, 0.0, 0.13, 0.0];
        assert_eq!(
            rules().advance(&mut state, &[1.0, 0.0]),
            Step::new(0.0, false)
        );
        assert_eq!(
            rules().advance(&mut state, &[0.0, 0.0]),
            Step::new(0.0, false)
        );
        assert_eq!(
            rules().advance(&mut state, &[-1.0, 0.0]),
            Step::new(-1.0, false)
        );
    }

    #[test]
    fn states_outside_the_square_cannot_be_restored() {
        assert!(rules().is_possible(&[1.0, -1.0, 0.0, 0.0]));
        assert!(!rules().is_possible(&[1.1, 0.0, 0.0, 0.0]));
        assert!(!rules().is_possible(&[f32::NAN, 0.0, 0.0, 0.0]));
    }
}
