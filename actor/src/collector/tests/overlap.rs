//! Shards whose environments are stepped elsewhere, of which a collector works on two in turn.

use std::sync::Mutex;

use crate::environments::{BatchedEnvironment, RestoreError, StepOutput};

use super::*;

/// What was asked of which shard, in order.
type Story = Arc<Mutex<Vec<(u32, &'static str)>>>;

/// Native environments that claim to be stepped elsewhere, and hold whoever steps them to what is agreed
/// on: a step is begun once, and nothing else comes before it has been taken with the same actions.
struct Elsewhere {
    inner: Box<dyn BatchedEnvironment>,
    shard: u32,
    story: Story,
    begun: Option<Vec<f32>>,
    /// Steps until one fails.
    steps_left: Option<usize>,
}

impl BatchedEnvironment for Elsewhere {
    fn spec(&self) -> &EnvironmentSpec {
        self.inner.spec()
    }

    fn num_envs(&self) -> usize {
        self.inner.num_envs()
    }

    fn reset(
        &mut self,
        index: usize,
        random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        assert_eq!(self.begun, None);
        self.inner.reset(index, random, observation)
    }

    fn is_elsewhere(&self) -> bool {
        true
    }

    fn begin_step(&mut self, actions: &[f32]) -> Result<(), EnvironmentFault> {
        assert_eq!(self.begun.replace(actions.to_vec()), None);
        self.story.lock().unwrap().push((self.shard, "begin"));
        Ok(())
    }

    fn step(&mut self, actions: &[f32], output: StepOutput<'_>) -> Result<(), EnvironmentFault> {
        assert_eq!(self.begun.take().as_deref(), Some(actions));
        self.story.lock().unwrap().push((self.shard, "step"));
        if let Some(steps_left) = &mut self.steps_left {
            *steps_left = steps_left
                .checked_sub(1)
                .ok_or_else(|| EnvironmentFault::new("it is gone"))?;
        }
        self.inner.step(actions, output)
    }

    fn observe(&self, observations: &mut [f32]) {
        assert_eq!(self.begun, None);
        self.inner.observe(observations);
    }

    fn save(&self, state: &mut Vec<u8>) {
        assert_eq!(self.begun, None);
        self.inner.save(state);
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        self.inner.restore(state)
    }
}

/// A collector of three shards of CartPole that are stepped elsewhere inside of wrappers, of which shard
/// `fails` does so after two steps.
fn elsewhere(wrappers: &[Wrapper], fails: Option<u32>) -> (Collector, Story) {
    let story = Story::default();
    let make = |shard| {
        let inner = environments::make("CartPole-v1", &BTreeMap::new(), ENVS_PER_SHARD).unwrap();
        let elsewhere = Elsewhere {
            inner,
            shard,
            story: Arc::clone(&story),
            begun: None,
            steps_left: (fails == Some(shard)).then_some(2),
        };
        environments::wrap(Box::new(elsewhere), wrappers).unwrap()
    };
    let mut collector = collector(make(9).spec(), 0);
    for shard in 0..3 {
        collector.follow(lease(shard, None)).unwrap();
        let first_env = shard * ENVS_PER_SHARD as u32;
        let work = collector.work.get_mut(&ShardId(shard)).unwrap();
        work.shard = Shard::new(make(shard), first_env, SEED, Purpose::Episode).unwrap();
    }
    (collector, story)
}

/// Versions 0 and 1 of a policy for an environment.
fn versions(environment: &EnvironmentSpec) -> Vec<Instruction> {
    let spec = values(environment, true).unwrap();
    let numbers = 0..2;
    numbers
        .map(|number| version(&spec, APE_X, number, &[]))
        .collect()
}

/// All unrolls, by shard and index.
fn collected(collector: &mut Collector, versions: Vec<Instruction>) -> Vec<Unroll> {
    let mut unrolls = Vec::new();
    for version in versions {
        collector.follow(version).unwrap();
        loop {
            let next = collector.next();
            if next.is_empty() {
                break;
            }
            unrolls.extend(collector.collect(&next).unwrap());
        }
    }
    unrolls.sort_by_key(|unroll| (unroll.key.shard, unroll.key.index));
    unrolls
}

const SCALE: Wrapper = Wrapper::ScaleReward {
    factor: 0.5,
    training_only: true,
};

#[test]
fn one_shard_is_stepped_while_the_policy_acts_in_the_other_and_unrolls_stay_the_same() {
    let (mut overlapped, story) = elsewhere(&[SCALE], None);
    let environment = overlapped.work[&ShardId(0)].shard.spec().clone();
    let versions = versions(&environment);
    overlapped.follow(versions[0].clone()).unwrap();
    assert_eq!(overlapped.next(), [(ShardId(0), 0), (ShardId(1), 0)]);
    let unrolls = collected(&mut overlapped, versions.clone());
    assert_eq!(unrolls.len(), 6);

    let mut alone = collector(&environment, 0);
    for shard in 0..3 {
        alone.follow(lease(shard, None)).unwrap();
    }
    alone.follow(versions[0].clone()).unwrap();
    assert_eq!(alone.next(), [(ShardId(0), 0)]);
    assert_eq!(unrolls, collected(&mut alone, versions));

    let mut expected = vec![(0, "begin"), (1, "begin")];
    for _ in 1..UNROLL_LENGTH {
        expected.extend([(0, "step"), (0, "begin"), (1, "step"), (1, "begin")]);
    }
    expected.extend([(0, "step"), (1, "step")]);
    let story = story.lock().unwrap();
    assert_eq!(story[..expected.len()], expected);
    // The third has nobody beside it.
    assert_eq!(story[expected.len()..][..2], [(2, "begin"), (2, "step")]);
}

#[test]
fn a_step_whose_actions_the_wrappers_draw_is_not_begun() {
    let sticky = Wrapper::StickyActions {
        probability: 0.5,
        training_only: true,
    };
    let (mut collector, story) = elsewhere(&[sticky, SCALE], None);
    let shard = &mut collector.work.get_mut(&ShardId(0)).unwrap().shard;
    assert!(shard.is_elsewhere());
    shard.begin_step(&[0.0; ENVS_PER_SHARD]).unwrap();
    assert!(story.lock().unwrap().is_empty());
}

#[test]
fn what_fails_is_collected_anew_and_what_stands_beside_it_is_not() {
    let (mut whole, _) = elsewhere(&[], None);
    let environment = whole.work[&ShardId(0)].shard.spec().clone();
    let first: Vec<Instruction> = versions(&environment).into_iter().take(1).collect();
    let expected = collected(&mut whole, first.clone());
    let (mut failing, _) = elsewhere(&[], Some(1));
    let unrolls = collected(&mut failing, first);
    assert_eq!(unrolls[0], expected[0]);
    assert_eq!(unrolls[2], expected[2]);
    assert_eq!(unrolls[1].key, expected[1].key);
    assert_eq!(unrolls[1].discontinuity.as_deref(), Some("it is gone"));
    assert_ne!(unrolls[1].observation, expected[1].observation);
}
