//! Actions that cannot be taken: observations end in a mask of them.

use rookery_common::policy::PolicySpec;
use tch::Tensor;

/// The logit, or the value, of an action that cannot be taken: finite, so that a probability of zero times its
/// logarithm is zero and no NaN.
const IMPOSSIBLE: f64 = -1e8;

/// Where in an observation the action mask of a policy stands.
#[derive(Clone, Copy, Debug)]
pub struct ActionMask {
    first: i64,
    width: i64,
}

impl ActionMask {
    /// That of a policy's observations; none where they have none.
    #[must_use]
    pub fn of(policy: &PolicySpec) -> Option<Self> {
        let width = policy.mask_width();
        (width > 0).then(|| Self {
            first: (policy.observation_width() - width) as i64,
            width: width as i64,
        })
    }

    /// `scores`, one for each action, without hope for those that cannot be taken.
    ///
    /// # Shapes
    /// `inputs` are encoded observations `[N, inputs]`, which are the observations themselves; `scores` and the
    /// result are `[N, actions]`.
    pub fn apply(&self, inputs: &Tensor, scores: &Tensor) -> Tensor {
        let impossible = inputs.narrow(-1, self.first, self.width).eq(0.0);
        scores.masked_fill(&impossible, IMPOSSIBLE)
    }
}

#[cfg(test)]
mod tests {
    use rookery_common::policy::Activation;
    use rookery_common::spaces::Space;

    use super::*;

    #[test]
    fn what_cannot_be_done_has_no_probability_and_no_gradient() {
        let (observation, action) = (
            Space::bounded(&[0.0; 5], &[1.0; 5]),
            Space::Discrete { n: 3 },
        );
        let policy = PolicySpec::new(&observation, &action, vec![], Activation::Tanh).unwrap();
        assert!(ActionMask::of(&policy).is_none());
        let policy = policy.with_action_mask(true).unwrap();
        let mask = ActionMask::of(&policy).unwrap();
        let inputs = Tensor::from_slice(&[0.5_f32, 0.5, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let scores = Tensor::from_slice(&[1.0_f32, 9.0, 2.0, 1.0, 9.0, 2.0]).view([2, 3]);
        let masked = mask.apply(&inputs.view([2, 5]), &scores);
        assert_eq!(masked.argmax(-1, false).double_value(&[0]), 2.0);
        assert_eq!(masked.argmax(-1, false).double_value(&[1]), 1.0);
        let probabilities = masked.softmax(-1, tch::Kind::Float);
        assert_eq!(probabilities.double_value(&[0, 1]), 0.0);
        let expected = 1.0 / (1.0 + std::f64::consts::E);
        assert!((probabilities.double_value(&[0, 0]) - expected).abs() < 1e-6);
    }
}
