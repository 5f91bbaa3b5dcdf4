use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use rookery_common::seeds::Random;
use rookery_common::snapshot::{self, SnapshotError};
use rookery_common::spaces::{EnvironmentSpec, Space};
use rookery_common::wrappers::{StackPadding, Wrapper};
use serde::{Deserialize, Serialize};

use super::*;
use crate::environments::{EnvironmentFault, RestoreError, StepOutput, ids};

/// What is wrong with a [`Walk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    Nothing,
    BoundsAreSwapped,
    StartsOutside,
    SeesNoNumber,
    EarnsInfinity,
    LeavesFlagsUnwritten,
    ShowsSomethingElse,
    DrawsFromTheProcess,
    IgnoresSeeds,
    RemembersEpisodes,
    SavesTooLittle,
    RefusesItsState,
    TakesAnyState,
    SavesNothing,
    LooksAtNeighbours,
    StepsEveryone,
    StepsTogetherOnly,
    DoesNotClip,
    NeverEnds,
    TerminatesAtTheLimit,
    Panics,
    Breaks,
}

const LIMIT: u32 = 30;
/// Batches that were made in this process.
static BATCHES: AtomicU64 = AtomicU64::new(0);

/// Walks along a line, pushed by actions and by chance; the way is the cost, and far out it ends.
struct Walk {
    spec: EnvironmentSpec,
    defect: Defect,
    batch: u64,
    instances: Vec<Instance>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Instance {
    random: Random,
    place: f32,
    time: u32,
    /// Steps of all episodes.
    age: u32,
}

impl Walk {
    fn new(defect: Defect, num_envs: usize) -> Self {
        let (low, high) = match defect {
            Defect::BoundsAreSwapped => (100.0, -100.0),
            _ => (-100.0, 100.0),
        };
        Self {
            spec: EnvironmentSpec {
                id: "Walk".to_owned(),
                arguments: BTreeMap::new(),
                observation: Space::bounded(&[low], &[high]),
                action: Space::bounded(&[-1.0], &[1.0]),
                max_episode_steps: (defect != Defect::NeverEnds).then_some(LIMIT),
                goal: None,
                wrappers: Vec::new(),
                action_mask: false,
            },
            defect,
            batch: BATCHES.fetch_add(1, Ordering::Relaxed),
            instances: vec![
                Instance {
                    random: Random::derive(0, rookery_common::seeds::Purpose::Episode, 0, 0),
                    place: 0.0,
                    time: 0,
                    age: 0,
                };
                num_envs
            ],
        }
    }

    fn seen(&self, instance: &Instance) -> f32 {
        match (self.defect, instance.time) {
            (Defect::StartsOutside, 0) => 1000.0,
            (Defect::SeesNoNumber, 5) => f32::NAN,
            _ => instance.place,
        }
    }

    fn advance(&mut self, index: usize, action: f32) -> (f32, u8) {
        let neighbour = self.instances[0].place;
        let defect = self.defect;
        let instance = &mut self.instances[index];
        let action = match defect {
            Defect::DoesNotClip => action,
            _ => action.clamp(-1.0, 1.0),
        };
        instance.time += 1;
        instance.age += 1;
        instance.place += 0.1 * action;
        if defect != Defect::IgnoresSeeds {
            instance.place += 0.2 * (instance.random.unit_f32() - 0.5);
        }
        if defect == Defect::LooksAtNeighbours && index > 0 {
            instance.place += 0.01 * neighbour;
        }
        let reward = match defect {
            Defect::EarnsInfinity if instance.time == 5 => f32::INFINITY,
            Defect::RemembersEpisodes | Defect::SavesTooLittle => instance.age as f32,
            _ => -instance.place.abs(),
        };
        let is_terminal = match defect {
            Defect::NeverEnds => false,
            Defect::TerminatesAtTheLimit => instance.time >= LIMIT,
            _ => instance.place.abs() > 0.8,
        };
        (reward, u8::from(is_terminal))
    }
}

impl BatchedEnvironment for Walk {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn num_envs(&self) -> usize {
        self.instances.len()
    }

    fn reset(
        &mut self,
        index: usize,
        mut random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        let age = match self.defect {
            Defect::RemembersEpisodes => self.instances[index].age,
            _ => 0,
        };
        let place = match self.defect {
            Defect::IgnoresSeeds => 0.0,
            Defect::DrawsFromTheProcess => 1e-3 * self.batch as f32,
            _ => 0.2 * (random.unit_f32() - 0.5),
        };
        self.instances[index] = Instance {
            random,
            place,
            time: 0,
            age,
        };
        observation[0] = self.seen(&self.instances[index]);
        Ok(())
    }

    fn step(&mut self, actions: &[f32], output: StepOutput<'_>) -> Result<(), EnvironmentFault> {
        let everyone = vec![true; self.instances.len()];
        let time = self.instances[0].time;
        assert!(self.defect != Defect::Panics || time != 5, "lost at {time}");
        if self.defect == Defect::Breaks && time == 5 {
            return Err(EnvironmentFault::new("the line is broken; mend it"));
        }
        match self.defect {
            Defect::StepsTogetherOnly => {
                self.defect = Defect::Nothing;
                let stepped = self.step_some(&everyone, actions, output);
                self.defect = Defect::StepsTogetherOnly;
                stepped
            }
            _ => self.step_some(&everyone, actions, output),
        }
    }

    fn step_some(
        &mut self,
        active: &[bool],
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        if self.defect == Defect::StepsTogetherOnly {
            return Err(EnvironmentFault::new("all or none"));
        }
        for index in 0..self.instances.len() {
            let is_stepped = active[index] || self.defect == Defect::StepsEveryone;
            if !is_stepped {
                continue;
            }
            let (reward, terminated) = self.advance(index, actions[index]);
            if active[index] {
                output.observations[index] = self.seen(&self.instances[index]);
                output.rewards[index] = reward;
                output.terminated[index] = terminated;
                if self.defect != Defect::LeavesFlagsUnwritten {
                    output.truncated[index] = 0;
                }
            }
        }
        Ok(())
    }

    fn observe(&self, observations: &mut [f32]) {
        for (observation, instance) in observations.iter_mut().zip(&self.instances) {
            *observation = self.seen(instance);
            if self.defect == Defect::ShowsSomethingElse {
                *observation += 1.0;
            }
        }
    }

    fn save(&self, state: &mut Vec<u8>) {
        let mut instances = self.instances.clone();
        match self.defect {
            Defect::SavesNothing => return,
            Defect::SavesTooLittle => {
                for instance in &mut instances {
                    instance.age = 0;
                }
            }
            _ => {}
        }
        snapshot::encode(1, &instances, state);
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        match self.defect {
            Defect::RefusesItsState | Defect::SavesNothing => {
                return Err(SnapshotError::Empty.into());
            }
            Defect::TakesAnyState if snapshot::decode_all::<Vec<Instance>>(1, state).is_err() => {
                return Ok(());
            }
            _ => {}
        }
        let instances: Vec<Instance> = snapshot::decode_all(1, state)?;
        assert_eq!(instances.len(), self.instances.len());
        self.instances = instances;
        Ok(())
    }
}

const QUICK: CheckOptions = CheckOptions {
    seed: 1,
    steps: 200,
    max_steps: 2000,
    measure_milliseconds: 1,
};

fn report_on(defect: Defect) -> Report {
    check(
        &|num_envs| Ok(Box::new(Walk::new(defect, num_envs))),
        &QUICK,
    )
    .unwrap()
}

fn failed(report: &Report) -> Vec<&'static str> {
    let checks = report.checks.iter();
    checks
        .filter(|check| matches!(check.outcome, Outcome::Failed { .. }))
        .map(|check| check.name)
        .collect()
}

/// The report without what the machine decides.
fn text(mut report: Report) -> String {
    for check in &mut report.checks {
        if check.name == "speed" {
            check.outcome = Outcome::Ok {
                note: "measured".to_owned(),
            };
        }
    }
    report.to_string()
}

#[test]
fn every_native_environment_is_sound() {
    for id in ids() {
        let make = |num_envs| environments::make(id, &BTreeMap::new(), num_envs);
        let report = check(&make, &QUICK).unwrap();
        assert!(report.is_sound(), "{report}");
    }
}

#[test]
fn wrapped_environments_are_sound() {
    let stack = Wrapper::FrameStack {
        size: 3,
        padding: StackPadding::Reset,
    };
    let skip = Wrapper::FrameSkip {
        frames: 3,
        max_pool: true,
    };
    let rescale = Wrapper::RescaleAction {
        low: -1.0,
        high: 1.0,
    };
    let sticky = Wrapper::StickyActions {
        probability: 0.25,
        training_only: false,
    };
    let noops = Wrapper::NoopStarts {
        max_steps: 4,
        action: 0,
        training_only: true,
    };
    let scale = Wrapper::ScaleReward {
        factor: 0.3,
        training_only: true,
    };
    for (id, wrappers) in [
        (
            "CartPole-v1",
            vec![sticky.clone(), skip.clone(), stack, scale],
        ),
        (
            "Pendulum-v1",
            vec![rescale, sticky, Wrapper::PreviousAction {}],
        ),
        ("Breakout-MinAtar-v0", vec![noops, skip]),
        (
            "FrozenLake-v1",
            vec![Wrapper::FlattenObservation {}, Wrapper::PreviousReward {}],
        ),
    ] {
        let environment = EnvironmentConfiguration {
            id: id.to_owned(),
            wrappers,
            ..EnvironmentConfiguration::default()
        };
        let report = check_configured(&environment, &QUICK).unwrap();
        assert!(report.is_sound(), "{report}");
    }
}

#[test]
fn a_sound_report_says_what_was_seen() {
    insta::assert_snapshot!(text(report_on(Defect::Nothing)), @r"
    Walk: observations Box[1], actions Box[1]
      ok      spec                   at most 30 steps
      ok      reset observations     100 episodes
      ok      step observations      600 steps, 18 episodes
      ok      rewards                from -0.86304355 to -0.00068138354
      ok      flags                  600 steps, 18 episodes
      ok      observe                200 times
      ok      equal seeds            200 steps of 3 instances
      ok      other seeds            episodes start differently
      ok      no leaks               after 7 other episodes
      ok      restore                200 steps later still equal; 16 bytes an instance
      ok      independent instances  3 together are as each is alone
      ok      single steps           200 steps one instance at a time
      ok      actions out of bounds  they are clipped
      ok      episodes end           after 30 steps at the latest
      ok      time limit             17 of 17 episodes that reached it were truncated
      ok      speed                  measured
    It can be trained on.
    ");
}

#[test]
fn every_defect_is_found_by_its_check_alone() {
    let mut found = Vec::new();
    for (defect, name) in [
        (Defect::BoundsAreSwapped, "spec"),
        (Defect::StartsOutside, "reset observations"),
        (Defect::SeesNoNumber, "step observations"),
        (Defect::EarnsInfinity, "rewards"),
        (Defect::LeavesFlagsUnwritten, "flags"),
        (Defect::ShowsSomethingElse, "observe"),
        (Defect::DrawsFromTheProcess, "equal seeds"),
        (Defect::RemembersEpisodes, "no leaks"),
        (Defect::SavesTooLittle, "restore"),
        (Defect::RefusesItsState, "restore"),
        (Defect::TakesAnyState, "restore"),
        (Defect::LooksAtNeighbours, "independent instances"),
        (Defect::StepsEveryone, "single steps"),
        (Defect::DoesNotClip, "actions out of bounds"),
        (Defect::NeverEnds, "episodes end"),
        (Defect::TerminatesAtTheLimit, "time limit"),
    ] {
        let report = report_on(defect);
        assert_eq!(failed(&report), [name], "{defect:?}\n{report}");
        assert!(!report.is_sound());
        let check = report.checks.iter().find(|check| check.name == name);
        let Outcome::Failed { reason, remedy } = &check.unwrap().outcome else {
            unreachable!("it has failed")
        };
        // The number of the batch depends on the tests that ran before.
        let reason = match defect {
            Defect::DrawsFromTheProcess => "(numbers that differ)",
            _ => reason,
        };
        found.push(format!("{defect:?}: {name}: {reason}\n  -> {remedy}"));
    }
    insta::assert_snapshot!(found.join("\n"), @r"
    BoundsAreSwapped: spec: bounds 0 of the observation space are 100 and -100
      -> correct the observation space
    StartsOutside: reset observations: in the first observation of episode 0, value 0 is 1000, which does not lie from -100 to 100
      -> write a number to every value, and widen the observation space or put clip_observation around it where numbers lie outside
    SeesNoNumber: step observations: after step 5 of an episode, value 0 is not a number, or was not written
      -> write a number to every value, and widen the observation space or put clip_observation around it where numbers lie outside
    EarnsInfinity: rewards: after step 5 of an episode, the reward is inf
      -> give a finite reward for every step
    LeavesFlagsUnwritten: flags: after step 1 of an episode, `truncated` is 170, or was not written
      -> write 0 or 1 to `truncated` in every step
    ShowsSomethingElse: observe: instance 0 shows [0.9617296] and has written [-0.03827039]
      -> let `observe` write what the last reset or step has written
    DrawsFromTheProcess: equal seeds: (numbers that differ)
      -> draw everything from the `random` that a reset is given, and nothing from the clock, the process or global state
    RemembersEpisodes: no leaks: after other episodes, episode 0 differs: step 1 has rewards 1 and 201
      -> set everything that steps depend on in `reset`
    SavesTooLittle: restore: instance 0 went on and the restored one differ: step 1 has rewards 12 and 1
      -> save everything that the future depends on: positions, hidden variables, clocks, random numbers
    RefusesItsState: restore: it refuses its own state: the snapshot is empty
      -> let `restore` take what `save` has given
    TakesAnyState: restore: it takes 0 of the 50 bytes of a state for a state
      -> refuse bytes that are no whole state, and change nothing
    LooksAtNeighbours: independent instances: instance 1 of 3 is not as it is alone: step 1 has observations [-0.04328048] and [-0.04182791]
      -> keep everything that an instance depends on apart from the others'
    StepsEveryone: single steps: stepped by itself, instance 0 has observations [-0.2192202] and [-0.14525682]
      -> let `step_some` do to active instances what `step` does, and nothing to others
    DoesNotClip: actions out of bounds: actions [-0.37531355, 0.24452953, -1.3251648] do not do what [-0.37531355, 0.24452953, -1.0] do: observations [-0.091090836] and [-0.058574356]
      -> clip actions to their bounds, or put clip_action around it
    NeverEnds: episodes end: there is no time limit, and no 3 instances had four episodes in 2000 random steps
      -> put time_limit around it, so that evaluation ends
    TerminatesAtTheLimit: time limit: all of 18 episodes say that they terminated, after exactly the 30 steps of the time limit
      -> write 1 to `truncated` and 0 to `terminated` where only the time is up, or leave the limit to the spec
    ");
}

#[test]
fn what_cannot_be_said_is_skipped_with_the_reason() {
    for (defect, name, expected) in [
        (
            Defect::IgnoresSeeds,
            "other seeds",
            "16 seeds give one episode: nothing is drawn, or the `random` of a reset is ignored",
        ),
        (
            Defect::SavesNothing,
            "restore",
            "it cannot save its state: after an actor's death its episodes begin anew, and the \
             result then depends on who collected what",
        ),
        (
            Defect::StepsTogetherOnly,
            "single steps",
            "all or none; frame_skip and noop_starts cannot stand around it",
        ),
        (Defect::LeavesFlagsUnwritten, "restore", "flags has failed"),
        (Defect::NeverEnds, "time limit", "episodes end has failed"),
    ] {
        let report = report_on(defect);
        let check = report.checks.iter().find(|check| check.name == name);
        let reason = expected.to_owned();
        assert_eq!(
            check.unwrap().outcome,
            Outcome::Skipped { reason },
            "{defect:?}"
        );
    }
}

#[test]
fn a_panic_or_a_fault_is_a_failure_and_not_the_end() {
    for (defect, expected) in [
        (Defect::Panics, "it panicked: lost at 5"),
        (Defect::Breaks, "the line is broken; mend it"),
    ] {
        let report = report_on(defect);
        for name in ["step observations", "rewards", "equal seeds", "speed"] {
            let check = report.checks.iter().find(|check| check.name == name);
            match &check.unwrap().outcome {
                Outcome::Failed { reason, .. } => assert_eq!(reason, expected),
                // What it needs has failed.
                Outcome::Skipped { reason } => assert_eq!(reason, "flags has failed"),
                Outcome::Ok { .. } => panic!("{name} of {defect:?}\n{report}"),
            }
        }
        assert!(failed(&report).contains(&"flags"));
    }
}

#[test]
fn a_report_is_an_object_for_programs() {
    let json = serde_json::to_value(report_on(Defect::EarnsInfinity)).unwrap();
    assert_eq!(json["environment"]["id"], "Walk");
    let checks = json["checks"].as_array().unwrap();
    let rewards = checks.iter().find(|check| check["name"] == "rewards");
    let rewards = rewards.unwrap();
    assert_eq!(rewards["outcome"], "failed");
    assert_eq!(rewards["remedy"], "give a finite reward for every step");
    assert_eq!(checks[0]["outcome"], "ok");
}

#[test]
fn an_environment_that_cannot_be_made_is_an_error() {
    let environment = EnvironmentConfiguration {
        id: "CartPol-v1".to_owned(),
        ..EnvironmentConfiguration::default()
    };
    assert!(matches!(
        check_configured(&environment, &QUICK),
        Err(EnvironmentError::UnknownId { .. })
    ));
}
