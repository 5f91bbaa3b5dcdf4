//! What wrappers make of a goal, what evaluation makes of wrappers, and what they do not fit.

use super::*;

#[test]
fn a_goal_stays_where_hindsight_still_computes_what_is_given() {
    let goal = |wrappers: &[Wrapper]| native("PointReach-v0", 1, wrappers).spec().goal.clone();
    let bare = goal(&[]);
    assert!(bare.is_some());
    let keeping = [
        Wrapper::ClipAction {},
        sticky(0.5),
        time_limit(10),
        Wrapper::PreviousAction {},
        Wrapper::FlattenObservation {},
    ];
    assert_eq!(goal(&keeping), bare);
    assert_eq!(goal(&[scale(2.0)]), None);
    assert_eq!(goal(&[stack(2)]), None);
    assert_eq!(goal(&[skip(2)]), None);
}

#[test]
fn evaluation_leaves_out_what_is_for_training_alone() {
    let limit = Wrapper::TimeLimit {
        max_episode_steps: 5,
        training_only: true,
    };
    let wrappers = [limit, stack(2), sticky(0.5)];
    assert_eq!(for_evaluation(&wrappers), wrappers[1..]);
}

/// An environment that can only step all its instances together.
struct Together(Box<dyn BatchedEnvironment>);

impl BatchedEnvironment for Together {
    fn spec(&self) -> &EnvironmentSpec {
        self.0.spec()
    }

    fn num_envs(&self) -> usize {
        self.0.num_envs()
    }

    fn reset(
        &mut self,
        index: usize,
        random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        self.0.reset(index, random, observation)
    }

    fn step(&mut self, actions: &[f32], output: StepOutput<'_>) -> Result<(), EnvironmentFault> {
        self.0.step(actions, output)
    }

    fn observe(&self, observations: &mut [f32]) {
        self.0.observe(observations);
    }

    fn save(&self, state: &mut Vec<u8>) {
        self.0.save(state);
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        self.0.restore(state)
    }
}

#[test]
fn what_does_not_fit_is_refused_with_what_to_do() {
    let refusal = |environment: Box<dyn BatchedEnvironment>, wrappers: &[Wrapper]| match wrap(
        environment,
        wrappers,
    ) {
        Ok(_) => panic!("{wrappers:?} was put around it"),
        Err(error) => error.to_string(),
    };
    let bare = |id| make(id, &BTreeMap::new(), 2).unwrap();
    let cart_pole = || bare("CartPole-v1");
    let lake = || bare("FrozenLake-v1");
    let rescale = Wrapper::RescaleObservation {
        low: 0.0,
        high: 1.0,
    };
    let pooled = Wrapper::FrameSkip {
        frames: 2,
        max_pool: true,
    };
    let rescale_action = Wrapper::RescaleAction {
        low: -1.0,
        high: 1.0,
    };
    let cast = Wrapper::CastObservation {
        to: ElementType::Uint8,
    };
    let together = || Box::new(Together(cart_pole()));
    let refusals = [
        refusal(cart_pole(), &[stack(2), stack(1)]),
        refusal(cart_pole(), &[sticky(0.1), time_limit(501)]),
        refusal(cart_pole(), &[Wrapper::ClipAction {}]),
        refusal(cart_pole(), &[rescale_action]),
        refusal(cart_pole(), &[rescale]),
        refusal(cart_pole(), &[cast]),
        refusal(cart_pole(), &[noops(5, 2)]),
        refusal(bare("Pendulum-v1"), &[noops(5, 0)]),
        refusal(lake(), &[stack(2)]),
        refusal(lake(), &[pooled]),
        refusal(lake(), &[Wrapper::PreviousReward {}]),
        refusal(bare("Catch-v0"), &[Wrapper::PreviousAction {}]),
        refusal(together(), &[skip(2)]),
        refusal(together(), &[stack(2), noops(2, 0)]),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    wrapper 2 of `CartPole-v1`, frame_stack(padding = "reset", size = 1): `size` is 1; expected at least 2 and at most 1024
    wrapper 2 of `CartPole-v1`, time_limit(max_episode_steps = 501, training_only = false): episodes end after 500 steps already; set max_episode_steps to at most 500
    wrapper 1 of `CartPole-v1`, clip_action: actions are Discrete(2), and an index has no bounds to clip to; leave it out
    wrapper 1 of `CartPole-v1`, rescale_action(high = 1.0, low = -1.0): actions are Discrete(2), and an index cannot be rescaled; leave it out
    wrapper 1 of `CartPole-v1`, rescale_observation(high = 1.0, low = 0.0): an observation without finite bounds cannot be rescaled; put clip_observation before it
    wrapper 1 of `CartPole-v1`, cast_observation(to = "uint8"): observations have a bound of -4.8, and bytes go from 0 to 255; put rescale_observation before it, with low = 0 and high = 255
    wrapper 1 of `CartPole-v1`, noop_starts(action = 2, max_steps = 5, training_only = false): action is 2, and actions are Discrete(2); set it to at most 1
    wrapper 1 of `Pendulum-v1`, noop_starts(action = 0, max_steps = 5, training_only = false): actions are Box[1], none of which is known to do nothing; leave noop_starts out
    wrapper 1 of `FrozenLake-v1`, frame_stack(padding = "reset", size = 2): observations are Discrete(16), and an index cannot be stacked; put flatten_observation before it
    wrapper 1 of `FrozenLake-v1`, frame_skip(frames = 2, max_pool = true): observations are Discrete(16), and an index cannot be compared; put flatten_observation before it
    wrapper 1 of `FrozenLake-v1`, previous_reward: observations are Discrete(16), which nothing can be appended to; put flatten_observation before it
    wrapper 1 of `Catch-v0`, previous_action: observations are Box[1, 10, 5], which nothing can be appended to; put flatten_observation before it
    wrapper 1 of `CartPole-v1`, frame_skip(frames = 2, max_pool = false): `CartPole-v1` can only step all instances of a batch together; leave it out, or do the same inside the environment
    wrapper 2 of `CartPole-v1`, noop_starts(action = 0, max_steps = 2, training_only = false): `CartPole-v1` can only step all instances of a batch together; leave it out, or do the same inside the environment
    "#);
}
