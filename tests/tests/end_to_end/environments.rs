//! Runs in environments of Python that ask for more than one free choice.

use rookery_tests::{Cluster, Setup};
use toml::Value;

/// An action that a mask forbids would end the host, and the unroll would say so.
#[test]
fn what_a_mask_forbids_is_not_done_whatever_is_learnt() {
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/../actor/tests/python");
    let masked = |kind: &str, algorithm: &str| {
        Setup::hosted()
            .of_rounds(12)
            .set("run.algorithm", algorithm)
            .set("environment.id", "peculiar:Masked")
            .set("environment.arguments.kind", kind)
            .set("environment.arguments.action_mask", true)
            .set("actor.host.python_path", vec![Value::from(scripts)])
    };
    let dqn = masked("one", "dqn")
        .set("normalisation.observations", false)
        .set("replay.minimum_size", 300)
        .set("dqn.epsilon_decay", 2_000);
    for setup in [
        masked("one", "ppo"),
        masked("several", "ppo"),
        masked("several", "impala"),
        dqn,
    ] {
        let summary = Cluster::undisturbed(&setup);
        assert_eq!(summary.result.updates, 12, "{setup}");
        assert_eq!(summary.discontinuities, 0, "{setup}");
    }
}
