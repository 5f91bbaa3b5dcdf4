//! The MuJoCo environments against Gymnasium 1.4.0 itself, which steps along the same script with
//! the same library: every observation, reward and end of an episode is equal bit for bit.
//!
//! Needs a Python with `gymnasium[mujoco]` and `mujoco`, which `ROOKERY_TEST_PYTHON` names, and
//! MuJoCo's library of that Python where it is looked for: in a `.venv` above the tests, in the active
//! virtual environment or where `MUJOCO_LIBRARY` says.

#![cfg(feature = "mujoco")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a trace that cannot be made fails its test"
)]

use std::collections::BTreeMap;
use std::env;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use rookery_actor::environments::{BatchedEnvironment, StepOutput, make, mujoco};
use rookery_common::seeds::{Purpose, Random};
use rookery_common::snapshot;
use rookery_common::spaces::Space;

/// The format of the snapshots by which this test reads states.
const SNAPSHOT_VERSION: u8 = 1;

const NUM_EPISODES: usize = 4;
const NUM_STEPS: usize = 250;

/// An instance in a snapshot: its row, the place whose movement is rewarded, and its observation.
type Instance = (Vec<f64>, [f64; 2], Vec<f32>);

fn batch_of(id: &str, arguments: &[(&str, &str)], num_envs: usize) -> Box<dyn BatchedEnvironment> {
    let pairs = arguments.iter();
    let arguments: BTreeMap<_, _> = pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    match make(id, &arguments, num_envs) {
        Ok(batch) => batch,
        Err(error) => panic!("{error}"),
    }
}

fn reset(batch: &mut dyn BatchedEnvironment, index: usize, seed: u64) -> Vec<f32> {
    let mut observation = vec![f32::NAN; batch.spec().observation.width()];
    let random = Random::derive(seed, Purpose::Episode, 0, 0);
    batch.reset(index, random, &mut observation).unwrap();
    observation
}

/// What one step wrote.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    observations: Vec<f32>,
    rewards: Vec<f32>,
    terminated: Vec<u8>,
}

fn step(batch: &mut dyn BatchedEnvironment, actions: &[f32]) -> Step {
    let num_envs = batch.num_envs();
    let mut step = Step {
        observations: vec![f32::NAN; num_envs * batch.spec().observation.width()],
        rewards: vec![f32::NAN; num_envs],
        terminated: vec![9; num_envs],
    };
    let mut truncated = vec![9; num_envs];
    let output = StepOutput {
        observations: &mut step.observations,
        rewards: &mut step.rewards,
        terminated: &mut step.terminated,
        truncated: &mut truncated,
    };
    batch.step(actions, output).unwrap();
    assert_eq!(truncated, vec![0; num_envs]);
    step
}

/// `count` actions within the bounds, now gentle, now at full strength.
fn actions(space: &Space, count: usize, seed: u64) -> Vec<f32> {
    let Space::Box { low, high, .. } = space else {
        panic!("{space} has no bounds");
    };
    let mut random = Random::derive(seed, Purpose::Action, 0, 0);
    (0..count)
        .flat_map(|index| {
            let strength = [0.1, 1.0, 0.4][index / 40 % 3];
            let bounds = low.iter().zip(high);
            let drawn = bounds.map(|(low, high)| {
                let (low, high) = (f64::from(*low), f64::from(*high));
                (strength * random.uniform(low, high)) as f32
            });
            drawn.collect::<Vec<_>>()
        })
        .collect()
}

fn instances(batch: &dyn BatchedEnvironment) -> Vec<Instance> {
    let mut bytes = Vec::new();
    batch.save(&mut bytes);
    snapshot::decode_all(SNAPSHOT_VERSION, &bytes).unwrap()
}

/// Numbers that Gymnasium wrote.
struct Trace {
    bytes: std::vec::IntoIter<u8>,
}

impl Trace {
    fn number(&mut self) -> f64 {
        f64::from_le_bytes([(); 8].map(|()| self.byte()))
    }

    fn byte(&mut self) -> u8 {
        self.bytes.next().unwrap()
    }

    /// Compares what a step showed.
    fn shows(&mut self, observation: &[f32], what: &str) {
        for (index, value) in observation.iter().enumerate() {
            let expected = self.number() as f32;
            assert!(
                value.to_bits() == expected.to_bits() || (value.is_nan() && expected.is_nan()),
                "value {index} {what} is {value:?} instead of {expected:?}"
            );
        }
    }
}

/// Steps Gymnasium along a script.
fn gymnasium(batch: &dyn BatchedEnvironment, script: Vec<u8>) -> Trace {
    let Some(python) = env::var_os("ROOKERY_TEST_PYTHON") else {
        panic!(
            "ROOKERY_TEST_PYTHON must name a Python with Gymnasium and MuJoCo: `python3 -m venv .venv \
             && .venv/bin/pip install \"gymnasium[mujoco]==1.4.0\" mujoco==4.0.0`, and set it to \
             `$PWD/.venv/bin/python`"
        );
    };
    let arguments = batch.spec().arguments.iter();
    let mut child = Command::new(python)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../scripts/golden/mujoco_environments.py"
        ))
        .arg(&batch.spec().id)
        .args(arguments.map(|(name, value)| format!("{name}={value}")))
        // MuJoCo leaves a file of warnings where it runs.
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = thread::spawn(move || input.write_all(&script));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    writer.join().unwrap().unwrap();
    Trace {
        bytes: output.stdout.into_iter(),
    }
}

/// Takes episodes here and there and compares all there is to see.
fn is_gymnasiums(id: &str, arguments: &[(&str, &str)]) {
    let mut batch = batch_of(id, arguments, NUM_EPISODES);
    let (action_space, limit) = (batch.spec().action.clone(), batch.spec().max_episode_steps);
    assert!(limit.is_some());
    let firsts: Vec<_> = (0..NUM_EPISODES)
        .map(|index| reset(&mut *batch, index, index as u64))
        .collect();
    let scripts: Vec<_> = (0..NUM_EPISODES)
        .map(|index| actions(&action_space, NUM_STEPS, index as u64))
        .collect();

    let [num_positions, num_velocities] = sizes(id);
    let num_numbers = num_positions + num_velocities;
    let mut script = [NUM_EPISODES, NUM_STEPS]
        .map(|count| (count as u32).to_le_bytes())
        .concat();
    for ((row, _, _), actions) in instances(&*batch).iter().zip(&scripts) {
        // A row begins with the time.
        script.extend(
            row[1..=num_numbers]
                .iter()
                .flat_map(|value| value.to_le_bytes()),
        );
        script.extend(actions.iter().flat_map(|value| value.to_le_bytes()));
    }
    let mut trace = gymnasium(&*batch, script);

    let width = action_space.width();
    let steps: Vec<_> = (0..NUM_STEPS)
        .map(|t| {
            let rows = scripts
                .iter()
                .flat_map(|script| &script[t * width..][..width]);
            step(&mut *batch, &rows.copied().collect::<Vec<_>>())
        })
        .collect();
    let width = batch.spec().observation.width();
    for (episode, first) in firsts.iter().enumerate() {
        trace.shows(
            first,
            &format!("of the first observation of episode {episode}"),
        );
        for (t, step) in steps.iter().enumerate() {
            let what = format!("of the observation after step {t} of episode {episode}");
            trace.shows(&step.observations[episode * width..][..width], &what);
            let what = format!("as the reward of step {t} of episode {episode}");
            trace.shows(&step.rewards[episode..][..1], &what);
            assert_eq!(
                step.terminated[episode],
                trace.byte(),
                "terminated after step {t} of episode {episode}"
            );
        }
    }
    assert_eq!(trace.bytes.len(), 0, "the trace goes on");
}

/// Numbers of positions and velocities of a model.
fn sizes(id: &str) -> [usize; 2] {
    match id {
        "HalfCheetah-v5" | "Walker2d-v5" => [9, 9],
        "Hopper-v5" => [6, 6],
        "Swimmer-v5" => [5, 5],
        "Ant-v5" => [15, 14],
        "Humanoid-v5" | "HumanoidStandup-v5" => [24, 23],
        "InvertedPendulum-v5" => [2, 2],
        "InvertedDoublePendulum-v5" => [3, 3],
        "Reacher-v5" => [4, 4],
        "Pusher-v5" => [11, 11],
        _ => panic!("`{id}` is not among the environments that this test knows"),
    }
}

macro_rules! equal {
    ($($name:ident: $id:literal, $([$($argument:literal = $value:literal),*]),+;)*) => {
        $(#[test]
        fn $name() {
            $(is_gymnasiums($id, &[$(($argument, $value)),*]);)+
        })*

        #[test]
        fn every_environment_is_compared() {
            let mut known: Vec<_> = mujoco::ids().collect();
            let mut compared = vec![$($id),*];
            known.sort_unstable();
            compared.sort_unstable();
            assert_eq!(known, compared);
        }
    };
}

equal! {
    half_cheetah_is_gymnasiums: "HalfCheetah-v5",
        [],
        ["forward_reward_weight" = "1.7", "ctrl_cost_weight" = "0.3", "frame_skip" = "3",
         "exclude_current_positions_from_observation" = "false"];
    hopper_is_gymnasiums: "Hopper-v5",
        [],
        ["healthy_reward" = "0.5", "healthy_z_range" = "0.9, inf", "frame_skip" = "2",
         "healthy_angle_range" = "-0.1, 0.15", "healthy_state_range" = "-4.0, 5.0"],
        ["terminate_when_unhealthy" = "false", "ctrl_cost_weight" = "0.1",
         "exclude_current_positions_from_observation" = "false"];
    walker_is_gymnasiums: "Walker2d-v5",
        [],
        ["healthy_reward" = "0.7", "healthy_z_range" = "1.0, 1.3", "healthy_angle_range" = "-0.5, 0.6"],
        ["terminate_when_unhealthy" = "false", "forward_reward_weight" = "0.3",
         "exclude_current_positions_from_observation" = "false"];
    swimmer_is_gymnasiums: "Swimmer-v5",
        [],
        ["ctrl_cost_weight" = "0.03", "exclude_current_positions_from_observation" = "false"];
    ant_is_gymnasiums: "Ant-v5",
        [],
        ["main_body" = "3", "contact_cost_weight" = "0.02", "contact_force_range" = "-0.5, 2.0",
         "healthy_z_range" = "0.4, 0.9", "healthy_reward" = "2.5", "ctrl_cost_weight" = "0.1"],
        ["main_body" = "torso", "terminate_when_unhealthy" = "false", "frame_skip" = "2",
         "include_cfrc_ext_in_observation" = "false",
         "exclude_current_positions_from_observation" = "false"];
    humanoid_is_gymnasiums: "Humanoid-v5",
        [],
        ["contact_cost_weight" = "0.01", "contact_cost_range" = "0.1, 5.0", "healthy_reward" = "1.5",
         "healthy_z_range" = "1.2, 1.5", "include_cinert_in_observation" = "false",
         "include_qfrc_actuator_in_observation" = "false"],
        ["terminate_when_unhealthy" = "false", "ctrl_cost_weight" = "0.4",
         "forward_reward_weight" = "0.5", "include_cvel_in_observation" = "false",
         "include_cfrc_ext_in_observation" = "false",
         "exclude_current_positions_from_observation" = "false"];
    humanoid_standup_is_gymnasiums: "HumanoidStandup-v5",
        [],
        ["impact_cost_weight" = "0.01", "impact_cost_range" = "0.1, 5.0", "frame_skip" = "2"];
    inverted_pendulum_is_gymnasiums: "InvertedPendulum-v5",
        [],
        ["reset_noise_scale" = "0.1", "frame_skip" = "1"];
    inverted_double_pendulum_is_gymnasiums: "InvertedDoublePendulum-v5",
        [],
        ["healthy_reward" = "3.5", "reset_noise_scale" = "0.3"];
    reacher_is_gymnasiums: "Reacher-v5",
        [],
        ["reward_dist_weight" = "0.6", "reward_control_weight" = "0.3"];
    pusher_is_gymnasiums: "Pusher-v5",
        [],
        ["reward_near_weight" = "0.7", "reward_dist_weight" = "0.6", "reward_control_weight" = "0.3"];
}

/// A state that `MuJoCo` cannot go on from, which it notices and resets in the middle of a step.
#[test]
fn an_unstable_simulation_is_reset_as_in_gymnasium() {
    let mut batch = batch_of("HalfCheetah-v5", &[], 1);
    reset(&mut *batch, 0, 1);
    let mut state = instances(&*batch);
    // The first velocity: after the time and nine positions.
    state[0].0[10] = 1e11;
    let mut bytes = Vec::new();
    snapshot::encode(SNAPSHOT_VERSION, &state, &mut bytes);
    batch.restore(&bytes).unwrap();

    let script = actions(&batch.spec().action, NUM_STEPS, 1);
    let numbers = state[0].0[1..=18].iter();
    let mut input = [1, NUM_STEPS as u32].map(u32::to_le_bytes).concat();
    input.extend(numbers.flat_map(|value| value.to_le_bytes()));
    input.extend(script.iter().flat_map(|value| value.to_le_bytes()));
    let mut trace = gymnasium(&*batch, input);
    for _ in 0..17 {
        trace.number();
    }
    for (t, action) in script.chunks_exact(6).enumerate() {
        let step = step(&mut *batch, action);
        assert!(step.observations.iter().all(|value| value.abs() < 1e4));
        trace.shows(
            &step.observations,
            &format!("of the observation after step {t}"),
        );
        trace.shows(&step.rewards, &format!("as the reward of step {t}"));
        assert_eq!(step.terminated, [trace.byte()]);
    }
}

#[test]
fn a_restored_batch_goes_on_as_the_saved_one() {
    for id in mujoco::ids() {
        let mut batch = batch_of(id, &[], 3);
        let action_width = batch.spec().action.width();
        for index in 0..3 {
            reset(&mut *batch, index, index as u64);
        }
        let script = actions(&batch.spec().action, 3 * 90, 5);
        let mut script = script.chunks_exact(3 * action_width);
        for row in script.by_ref().take(40) {
            step(&mut *batch, row);
        }
        let mut state = Vec::new();
        batch.save(&mut state);
        // Elsewhere, where other episodes have gone before.
        let mut other = batch_of(id, &[], 3);
        for index in 0..3 {
            reset(&mut *other, index, 7);
        }
        step(&mut *other, &vec![0.0; 3 * action_width]);
        other.restore(&state).unwrap();
        let mut saved_again = Vec::new();
        other.save(&mut saved_again);
        assert_eq!(state, saved_again);
        let (mut here, mut there) = (vec![0.0; 3 * batch.spec().observation.width()], Vec::new());
        batch.observe(&mut here);
        there.resize(here.len(), f32::NAN);
        other.observe(&mut there);
        assert_eq!(here, there, "{id}");
        let mut num_compared = 0;
        for row in script {
            assert_eq!(step(&mut *batch, row), step(&mut *other, row), "{id}");
            num_compared += 1;
        }
        assert_eq!(num_compared, 50);
        assert_eq!(instances(&*batch), instances(&*other), "{id}");
    }
}

#[test]
fn an_instance_does_not_notice_the_others() {
    for id in mujoco::ids() {
        let mut alone = batch_of(id, &[], 1);
        let mut together = batch_of(id, &[], 3);
        let width = alone.spec().observation.width();
        let action_width = alone.spec().action.width();
        for index in 0..3 {
            reset(&mut *together, index, index as u64);
        }
        reset(&mut *alone, 0, 1);
        let script = actions(&alone.spec().action, 3 * 60, 6);
        for row in script.chunks_exact(3 * action_width) {
            let one = step(&mut *alone, &row[action_width..][..action_width]);
            let all = step(&mut *together, row);
            assert_eq!(one.observations, all.observations[width..][..width], "{id}");
            assert_eq!(one.rewards[0], all.rewards[1], "{id}");
            assert_eq!(one.terminated[0], all.terminated[1], "{id}");
        }
    }
}

/// How far values of the model's default state are moved where an episode begins.
#[derive(Clone, Copy)]
enum Noise {
    Uniform(f64),
    Normal(f64),
}

impl Noise {
    /// Whether draws look like it: its deviation within a tenth, and its tails.
    fn fits(self, draws: &[f64]) -> bool {
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let squares = draws.iter().map(|draw| (draw - mean).powi(2));
        let deviation = (squares.sum::<f64>() / draws.len() as f64).sqrt();
        let furthest = draws
            .iter()
            .fold(0.0, |most: f64, draw| most.max(draw.abs()));
        let (expected, tail) = match self {
            Self::Uniform(scale) => (scale / 3.0_f64.sqrt(), 0.98 * scale..=scale),
            Self::Normal(scale) => (scale, 2.5 * scale..=6.0 * scale),
        };
        (deviation / expected - 1.0).abs() < 0.1
            && mean.abs() < 0.1 * expected
            && tail.contains(&furthest)
    }
}

#[test]
fn episodes_begin_where_gymnasiums_do() {
    use Noise::{Normal, Uniform};
    // Positions that are not moved from zero are left out: heights and the ant's orientation.
    for (id, positions, velocities, zeros) in [
        ("HalfCheetah-v5", Uniform(0.1), Normal(0.1), 0..9),
        ("Hopper-v5", Uniform(5e-3), Uniform(5e-3), 2..6),
        ("Walker2d-v5", Uniform(5e-3), Uniform(5e-3), 2..9),
        ("Swimmer-v5", Uniform(0.1), Uniform(0.1), 0..5),
        ("Ant-v5", Uniform(0.1), Normal(0.1), 0..2),
        ("Humanoid-v5", Uniform(0.01), Uniform(0.01), 7..24),
        ("HumanoidStandup-v5", Uniform(0.01), Uniform(0.01), 7..24),
        ("InvertedPendulum-v5", Uniform(0.01), Uniform(0.01), 0..2),
        ("InvertedDoublePendulum-v5", Uniform(0.1), Normal(0.1), 0..3),
    ] {
        let num_envs = 300;
        let mut batch = batch_of(id, &[], num_envs);
        for index in 0..num_envs {
            reset(&mut *batch, index, index as u64);
        }
        let states = instances(&*batch);
        let [num_positions, num_velocities] = sizes(id);
        let drawn = |first: usize, count: usize| -> Vec<f64> {
            let rows = states.iter().map(|(row, _, _)| &row[1 + first..][..count]);
            rows.flatten().copied().collect()
        };
        assert!(positions.fits(&drawn(zeros.start, zeros.len())), "{id}");
        assert!(
            velocities.fits(&drawn(num_positions, num_velocities)),
            "{id}"
        );
    }
}

#[test]
fn targets_and_objects_begin_where_gymnasiums_do() {
    let num_envs = 300;
    let states = |id: &str| {
        let mut batch = batch_of(id, &[], num_envs);
        for index in 0..num_envs {
            reset(&mut *batch, index, index as u64);
        }
        let rows = instances(&*batch).into_iter();
        rows.map(|(row, _, _)| row[1..].to_vec())
            .collect::<Vec<_>>()
    };
    let mut widest: f64 = 0.0;
    for row in states("Reacher-v5") {
        let [a, b, x, y, va, vb, vx, vy] = row[..8].try_into().unwrap();
        assert!(a.abs() <= 0.1 && b.abs() <= 0.1);
        assert!(x.hypot(y) < 0.2);
        widest = widest.max(x.hypot(y));
        assert!(va != 0.0 && va.abs() <= 5e-3 && vb.abs() <= 5e-3);
        assert_eq!([vx, vy], [0.0; 2]);
    }
    assert!(widest > 0.19, "{widest}");
    let mut nearest: f64 = 1.0;
    for row in states("Pusher-v5") {
        assert_eq!(row[..7], [0.0; 7]);
        let (x, y) = (row[7], row[8]);
        assert!((-0.3..=0.0).contains(&x) && (-0.2..=0.2).contains(&y));
        assert!(x.hypot(y) > 0.17);
        nearest = nearest.min(x.hypot(y));
        assert_eq!(row[9..11], [0.0; 2]);
        assert!(row[11] != 0.0 && row[11].abs() <= 5e-3);
        assert_eq!(row[18..22], [0.0; 4]);
    }
    assert!(nearest < 0.19, "{nearest}");
}

#[test]
fn damaged_states_are_refused_and_change_nothing() {
    let mut batch = batch_of("Hopper-v5", &[], 2);
    reset(&mut *batch, 0, 1);
    let mut before = Vec::new();
    batch.save(&mut before);
    let encoded = |instances: &[Instance]| {
        let mut bytes = Vec::new();
        snapshot::encode(SNAPSHOT_VERSION, &instances.to_vec(), &mut bytes);
        bytes
    };
    let mut short_row = instances(&*batch);
    short_row[1].0.pop();
    let mut long_observation = instances(&*batch);
    long_observation[1].2.push(0.0);
    let mut infinite = instances(&*batch);
    infinite[0].0[2] = f64::INFINITY;
    let impossible = |index| format!("environment {index} of the batch cannot occur");
    for (state, message) in [
        (encoded(&infinite), impossible(0)),
        (encoded(&short_row), impossible(1)),
        (encoded(&long_observation), impossible(1)),
        (
            encoded(&short_row[..1]),
            "number of environments 1, here it is 2".to_owned(),
        ),
        (before[..before.len() - 1].to_vec(), "cut off".to_owned()),
    ] {
        let error = batch.restore(&state).unwrap_err().to_string();
        assert!(error.contains(&message), "{error}");
        let mut after = Vec::new();
        batch.save(&mut after);
        assert_eq!(before, after);
    }
}

#[test]
fn actions_are_clipped_to_their_bounds() {
    let mut clipped = batch_of("Humanoid-v5", &[], 1);
    let mut within = batch_of("Humanoid-v5", &[], 1);
    for batch in [&mut clipped, &mut within] {
        reset(&mut **batch, 0, 1);
    }
    // The bounds of a humanoid's actions are not one.
    let (strong, strongest) = ([3.0; 17], [0.4; 17]);
    assert_eq!(step(&mut *clipped, &strong), step(&mut *within, &strongest));
}

#[test]
fn the_spec_says_what_the_model_is_and_what_simulates_it() {
    let batch = batch_of("Ant-v5", &[("healthy_z_range", "(0.25, inf)")], 2);
    let spec = batch.spec();
    let version = mujoco::version().unwrap();
    let expected = [
        ("healthy_z_range", "0.25, inf"),
        ("mujoco_version", version),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(spec.arguments, BTreeMap::from(expected));
    assert_eq!((spec.observation.width(), spec.action.width()), (105, 8));
    // It can be made again from what it says.
    let again = make(&spec.id, &spec.arguments, 1).unwrap();
    assert_eq!(again.spec(), spec);
    let limits = ["Reacher-v5", "Pusher-v5", "Hopper-v5"]
        .map(|id| batch_of(id, &[], 1).spec().max_episode_steps);
    assert_eq!(limits, [Some(50), Some(100), Some(1000)]);
}

#[test]
fn wrong_arguments_are_named() {
    for (id, argument, value, expected) in [
        (
            "Ant-v5",
            "main_body",
            "tail",
            "`Ant-v5` cannot be made: the model has no body `tail`",
        ),
        (
            "Hopper-v5",
            "healthy_z_range",
            "2, 1",
            "argument `healthy_z_range` of `Hopper-v5` is `2, 1`; expected two numbers, the lower \
             first, such as `0.8, 2` or `0.7, inf`",
        ),
        (
            "HalfCheetah-v5",
            "healthy_reward",
            "1",
            "`HalfCheetah-v5` takes no argument `healthy_reward`",
        ),
        (
            "Swimmer-v5",
            "frame_skip",
            "0",
            "argument `frame_skip` of `Swimmer-v5` is `0`; expected a whole number from 1 to 1000",
        ),
        (
            "Swimmer-v5",
            "mujoco_version",
            "2.1.0",
            "argument `mujoco_version` of `Swimmer-v5` is `2.1.0`; expected",
        ),
    ] {
        let arguments = BTreeMap::from([(argument.to_owned(), value.to_owned())]);
        let Err(error) = make(id, &arguments, 1) else {
            panic!("`{id}` with {argument} = {value} was made");
        };
        let error = error.to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
