//! The rules of `Shop-v0`, the program that runs it, and what can be earned.

#![expect(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use own_environment::{
    COST, DAYS, EPISODE, KEEPING, MAX_ORDER, Morning, NEIGHBOURS, PRICE, SHELF, Shop, VISITS,
    environments,
};
use rookery_actor::check::{CheckOptions, check_configured};
use rookery_actor::environments::{BatchedEnvironment, Environment, StepOutput, make};
use rookery_common::configuration::Configuration;
use rookery_common::seeds::{Purpose, Random};

fn configuration() -> Configuration {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("shop.toml");
    Configuration::parse(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// A batch whose instances have begun an episode each.
fn batch(num_envs: usize) -> Box<dyn BatchedEnvironment> {
    environments().install().unwrap();
    let mut batch = make("Shop-v0", &BTreeMap::new(), num_envs).unwrap();
    let mut row = vec![0.0; batch.spec().observation.width()];
    for index in 0..num_envs {
        let random = Random::derive(1, Purpose::Episode, index as u64, 0);
        batch.reset(index, random, &mut row).unwrap();
    }
    batch
}

/// What 100 steps of random actions show.
fn play(batch: &mut dyn BatchedEnvironment, mut random: Random) -> Vec<f32> {
    let num_envs = batch.num_envs();
    let mut shown = Vec::new();
    let mut observations = vec![0.0; num_envs * batch.spec().observation.width()];
    let mut rewards = vec![0.0; num_envs];
    for _ in 0..100 {
        let actions: Vec<f32> = (0..num_envs)
            .map(|_| random.below(MAX_ORDER as u64 + 1) as f32)
            .collect();
        let output = StepOutput {
            observations: &mut observations,
            rewards: &mut rewards,
            terminated: &mut vec![0; num_envs],
            truncated: &mut vec![0; num_envs],
        };
        batch.step(&actions, output).unwrap();
        shown.extend(observations.iter().chain(&rewards));
    }
    shown
}

#[test]
fn it_keeps_what_training_relies_on() {
    environments().install().unwrap();
    let options = CheckOptions::default();
    let report = check_configured(&configuration().environment, &options).unwrap();
    assert!(report.is_sound(), "{report}");
}

#[test]
fn a_restored_batch_goes_on_as_the_saved_one() {
    let (mut here, mut there) = (batch(3), batch(3));
    let random = |position| Random::derive(2, Purpose::Action, 0, position);
    play(&mut *here, random(0));
    let mut state = Vec::new();
    here.save(&mut state);
    there.restore(&state).unwrap();
    let shown = play(&mut *here, random(1));
    assert_eq!(shown, play(&mut *there, random(1)));
    assert_ne!(shown, play(&mut *there, random(1)));
}

#[test]
fn goods_come_the_next_morning_and_need_room() {
    let mut morning = Morning {
        stock: 15,
        arriving: 10,
        weekday: DAYS - 1,
        random: Random::derive(1, Purpose::Episode, 0, 0),
    };
    let step = Shop::default().step(&mut morning, &[4.0]);
    // Nobody comes on a Sunday.
    assert_eq!((morning.stock, morning.arriving), (SHELF, 4));
    assert_eq!(step.reward, -4.0 * COST - SHELF as f32 * KEEPING);
    assert_eq!(morning.weekday, 0);
}

#[test]
fn mornings_that_cannot_be_are_not_restored() {
    let possible = Shop::default().reset(Random::derive(1, Purpose::Episode, 0, 0));
    assert!(Shop::default().is_possible(&possible));
    for (stock, arriving, weekday) in [(SHELF + 1, 0, 0), (0, MAX_ORDER + 1, 0), (0, 0, DAYS)] {
        let impossible = Morning {
            stock,
            arriving,
            weekday,
            ..possible.clone()
        };
        assert!(!Shop::default().is_possible(&impossible), "{impossible:?}");
    }
}

#[test]
fn the_program_checks_it_and_says_what_it_does_not_take() {
    let program = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shop-actor"));
        command.arg("check-env").args(arguments).output().unwrap()
    };
    let sound = program(&["Shop-v0", "--steps", "50"]);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    let refused = program(&["Shop-v0", "--set", "environment.arguments.neighbors=3"]);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("did you mean `neighbours`?"), "{message}");
}

/// Which order is best on each weekday, with each stock and each delivery.
type Plan = Vec<usize>;

/// A morning's place in a [`Plan`].
fn place(weekday: usize, stock: usize, arriving: usize) -> usize {
    (weekday * (SHELF + 1) + stock) * (MAX_ORDER + 1) + arriving
}

/// How probable each number of visitors is.
fn visitors(weekday: usize) -> Vec<f64> {
    let mut probabilities = vec![0.0; NEIGHBOURS as usize + 1];
    probabilities[0] = 1.0;
    for _ in 0..NEIGHBOURS {
        for count in (0..probabilities.len()).rev() {
            let one_less = count.checked_sub(1).map_or(0.0, |less| probabilities[less]);
            probabilities[count] =
                (1.0 - VISITS[weekday]) * probabilities[count] + VISITS[weekday] * one_less;
        }
    }
    probabilities
}

/// The plan that is best with a discount of 0.97, by value iteration.
fn best_plan() -> Plan {
    const DISCOUNT: f64 = 0.97;
    let num_places = DAYS * (SHELF + 1) * (MAX_ORDER + 1);
    let mut values = vec![0.0; num_places];
    let mut plan = vec![0; num_places];
    for _ in 0..150 {
        let mut next = vec![0.0; num_places];
        for weekday in 0..DAYS {
            let visitors = visitors(weekday);
            for (stock, arriving) in
                (0..=SHELF).flat_map(|stock| (0..=MAX_ORDER).map(move |more| (stock, more)))
            {
                let goods = (stock + arriving).min(SHELF);
                let value = |order: usize| -> f64 {
                    let outcomes = visitors.iter().enumerate().map(|(count, probability)| {
                        let sold = goods.min(count);
                        let left = goods - sold;
                        let later = values[place((weekday + 1) % DAYS, left, order)];
                        let earned =
                            f64::from(PRICE) * sold as f64 - f64::from(KEEPING) * left as f64;
                        probability * (earned + DISCOUNT * later)
                    });
                    outcomes.sum::<f64>() - f64::from(COST) * order as f64
                };
                let orders = (0..=MAX_ORDER).map(|order| (order, value(order)));
                let best = orders.max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap();
                (
                    plan[place(weekday, stock, arriving)],
                    next[place(weekday, stock, arriving)],
                ) = best;
            }
        }
        values = next;
    }
    plan
}

/// The mean return of 4,000 episodes.
fn mean_return(order: impl Fn(&Morning) -> usize) -> f64 {
    const EPISODES: u64 = 4000;
    let shop = Shop::default();
    let mut sum = 0.0;
    for episode in 0..EPISODES {
        let mut morning = shop.reset(Random::derive(3, Purpose::Episode, 0, episode));
        for _ in 0..EPISODE {
            let action = order(&morning) as f32;
            sum += f64::from(shop.step(&mut morning, &[action]).reward);
        }
    }
    sum / EPISODES as f64
}

#[test]
fn whoever_solves_it_knows_the_week_and_need_not_be_perfect() {
    let plan = best_plan();
    let best = mean_return(|at| plan[place(at.weekday, at.stock, at.arriving)]);
    let up_to = |level: usize| {
        move |at: &Morning| level.saturating_sub(at.stock + at.arriving).min(MAX_ORDER)
    };
    let simple = (1..=SHELF).map(|level| mean_return(up_to(level)));
    let simple = simple.fold(f64::NEG_INFINITY, f64::max);
    let solved = configuration().run.solved_return.unwrap();
    assert!((best - 50.5).abs() < 0.5, "{best}");
    assert!((simple - 41.3).abs() < 0.5, "{simple}");
    assert!(simple + 2.0 < solved && solved < best - 2.0);
}
