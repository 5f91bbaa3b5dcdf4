//! Elastic determinism: the result of a synchronous run is a function of its configuration and its
//! seed, whatever becomes of its processes.

use rookery_tests::{Cluster, Exit, Outcome, Setup, wait};

/// A source of moments whose seed is shown when the test fails.
fn moments(seed: u64) -> fastrand::Rng {
    eprintln!("moments are drawn with seed {seed}");
    fastrand::Rng::with_seed(seed)
}

fn one_actor_of_one_thread(setup: &Setup) -> Outcome {
    let summary = Cluster::undisturbed(setup);
    assert_eq!(summary.result.updates, setup.rounds());
    assert_eq!(
        summary.result.env_steps,
        setup.rounds() * Setup::ROUND_STEPS
    );
    assert_eq!(summary.unrolls.trained, setup.rounds() * Setup::SHARDS);
    assert!(
        summary.result.episodes > 0,
        "episodes end, so that statistics depend on them"
    );
    summary.result
}

fn three_actors_of_different_thread_counts(setup: &Setup) -> Outcome {
    let cluster = Cluster::new(setup);
    let mut learner = cluster.learner();
    let actors = [1, 3, 2].map(|threads| cluster.actor(threads));
    learner.wait_received(Setup::SHARDS);
    learner.pause();
    learner.wait_actors(3);
    learner.resume();
    let summary = learner.finish();
    actors.into_iter().for_each(rookery_tests::Actor::finish);
    assert_eq!(summary.unrolls.trained, setup.rounds() * Setup::SHARDS);
    summary.result
}

fn an_actor_killed_again_and_again_and_replaced(setup: &Setup) -> Outcome {
    let mut moments = moments(11);
    let cluster = Cluster::new(setup);
    let mut learner = cluster.learner();
    let mut received = 0;
    let kills = 5;
    for _ in 0..kills {
        let mut actor = cluster.actor(2);
        received += moments.u64(1..=Setup::ROUNDS * Setup::SHARDS / (kills + 1));
        learner.wait_received(received);
        actor.kill();
        received = learner.unrolls().received;
    }
    // The last one to be killed may have sent what was left of a short run.
    let actor = cluster.actor(1);
    let summary = learner.finish();
    actor.finish_even_late();
    assert_eq!(summary.unrolls.trained, setup.rounds() * Setup::SHARDS);
    summary.result
}

fn an_actor_joins_late_and_another_leaves(setup: &Setup) -> Outcome {
    let cluster = Cluster::new(setup);
    let mut learner = cluster.learner();
    let mut early = cluster.actor(2);
    learner.wait_received(Setup::SHARDS * 10);
    learner.pause();
    let late = cluster.actor(1);
    learner.wait_actors(2);
    learner.resume();
    learner.wait_received(Setup::SHARDS * 20);
    early.terminate();
    assert_eq!(early.wait_exit(wait::LONG), Exit::Code(0));
    let summary = learner.finish();
    late.finish();
    assert_eq!(summary.unrolls.trained, setup.rounds() * Setup::SHARDS);
    summary.result
}

fn the_learner_killed_after_a_checkpoint_and_resumed(setup: &Setup) -> Outcome {
    let mut moments = moments(12);
    let cluster = Cluster::new(setup);
    let actors = [cluster.actor(1), cluster.actor(2)];
    let mut learner = cluster.learner();
    for _ in 0..4 {
        learner.wait_received(moments.u64(1..=8 * Setup::SHARDS));
        learner.pause();
        learner.checkpoint().expect("a checkpoint");
        learner.resume();
        let received = learner.unrolls().received;
        learner.wait_received(received + moments.u64(1..=4 * Setup::SHARDS));
        learner.kill();
        learner = cluster.resume();
    }
    // They find every new learner by themselves. Who finds the last one after it has ended would look
    // for it on and on.
    learner.pause();
    learner.wait_actors(2);
    learner.resume();
    let summary = learner.finish();
    actors.into_iter().for_each(rookery_tests::Actor::finish);
    summary.result
}

/// Holds that `scenario` ends with the result of an undisturbed run with one actor of one thread.
fn gives_the_undisturbed_result(setup: &Setup, scenario: fn(&Setup) -> Outcome) {
    let expected = one_actor_of_one_thread(setup);
    assert_eq!(scenario(setup), expected);
}

macro_rules! every_scenario {
    ($($name:ident: $setup:expr;)*) => {$(
        mod $name {
            use super::{Setup, gives_the_undisturbed_result};

            fn setup() -> Setup {
                $setup
            }

            #[test]
            fn one_actor_of_one_thread_twice() {
                gives_the_undisturbed_result(&setup(), super::one_actor_of_one_thread);
            }

            #[test]
            fn three_actors_of_different_thread_counts() {
                let scenario = super::three_actors_of_different_thread_counts;
                gives_the_undisturbed_result(&setup(), scenario);
            }

            #[test]
            fn an_actor_killed_again_and_again_and_replaced() {
                let scenario = super::an_actor_killed_again_and_again_and_replaced;
                gives_the_undisturbed_result(&setup(), scenario);
            }

            #[test]
            fn an_actor_joins_late_and_another_leaves() {
                let scenario = super::an_actor_joins_late_and_another_leaves;
                gives_the_undisturbed_result(&setup(), scenario);
            }

            #[test]
            fn the_learner_killed_after_a_checkpoint_and_resumed() {
                let scenario = super::the_learner_killed_after_a_checkpoint_and_resumed;
                gives_the_undisturbed_result(&setup(), scenario);
            }

            #[test]
            fn another_seed_gives_another_result() {
                let other = setup().set("run.seed", 8);
                let [a, b] = [setup(), other].map(|setup| super::one_actor_of_one_thread(&setup));
                assert_ne!(a.parameters_sha256, b.parameters_sha256);
            }
        }
    )*};
}

every_scenario! {
    discrete_at_lag_0: Setup::cart_pole();
    discrete_at_lag_1: Setup::cart_pole().set("schedule.lag", 1);
    continuous_at_lag_0: Setup::pendulum();
    continuous_at_lag_1: Setup::pendulum().set("schedule.lag", 1);
    impala_at_lag_0: Setup::impala();
    impala_at_lag_1: Setup::impala().set("schedule.lag", 1);
    ppo_with_vtrace_at_lag_1: Setup::ppo_vtrace().set("schedule.lag", 1);
    prioritised_dqn: Setup::dqn();
    rainbow_at_lag_1: Setup::rainbow().set("schedule.lag", 1);
    image_dqn_at_lag_1: Setup::image().set("schedule.lag", 1);
    sac: Setup::sac();
    lstm: Setup::lstm();
    gru_at_lag_1: Setup::gru().set("schedule.lag", 1);
}

/// The scenarios that tell most, for algorithms that share their machinery with those above: what one
/// of them keeps between rounds must survive actors and the learner.
macro_rules! telling_scenarios {
    ($($name:ident: $setup:expr;)*) => {$(
        mod $name {
            use super::{Setup, gives_the_undisturbed_result};

            #[test]
            fn an_actor_killed_again_and_again_and_replaced() {
                let scenario = super::an_actor_killed_again_and_again_and_replaced;
                gives_the_undisturbed_result(&$setup, scenario);
            }

            #[test]
            fn the_learner_killed_after_a_checkpoint_and_resumed() {
                let scenario = super::the_learner_killed_after_a_checkpoint_and_resumed;
                gives_the_undisturbed_result(&$setup, scenario);
            }
        }
    )*};
}

telling_scenarios! {
    hosted_at_lag_1: Setup::hosted().set("schedule.lag", 1);
    a2c: Setup::a2c().of_rounds(Setup::MANY_ROUNDS);
    reinforce_at_lag_1: Setup::reinforce()
        .of_rounds(Setup::MANY_ROUNDS)
        .set("schedule.lag", 1);
    sarsa: Setup::sarsa().of_rounds(Setup::MANY_ROUNDS);
    td3_at_lag_1: Setup::td3().set("schedule.lag", 1);
    q_learning_at_lag_1: Setup::q_learning()
        .of_rounds(Setup::MANY_ROUNDS)
        .set("schedule.lag", 1);
}
