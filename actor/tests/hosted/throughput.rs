//! Environments through the actor beside a loop of Python's own.

use std::time::Duration;

use rookery_actor::environments::EnvironmentError;
use rookery_actor::throughput::{BareError, Case, CompareError, cases, compare};
use rookery_common::configuration::HostConfiguration;

use super::support::settings;

const TIME: Duration = Duration::from_millis(20);

#[test]
fn both_sides_step_and_vector_environments_have_no_seeded_loop() {
    for (case, is_vector) in cases()[..2].iter().zip([false, true]) {
        let comparison = compare(&settings(), case, 2, TIME).unwrap();
        for rate in [comparison.actor, comparison.bare, comparison.ratio()] {
            assert!(rate > 0.0, "{comparison:?}");
        }
        assert_eq!(comparison.bare_seeded.is_none(), is_vector);
        assert_eq!(comparison.seeded_ratio().is_none(), is_vector);
    }
}

#[test]
fn what_is_printed_by_an_environment_is_no_answer() {
    let mut case = Case::new("peculiar:Failing", 2);
    let (how, print) = ("how".to_owned(), "print".to_owned());
    case.arguments.insert(how, print);
    let comparison = compare(&settings(), &case, 1, TIME).unwrap();
    assert!(comparison.bare > 0.0, "{comparison:?}");
}

#[test]
fn an_environment_that_one_side_cannot_make_is_an_error() {
    let unknown = Case::new("Nothing-v0", 2);
    assert!(matches!(
        compare(&settings(), &unknown, 1, TIME),
        Err(CompareError::Environment(
            EnvironmentError::UnknownId { .. }
        ))
    ));
    // Native, so that only the loop needs Python.
    let native = Case::new("CartPole-v1", 2);
    let nowhere = HostConfiguration {
        python: "/nowhere/python".into(),
        ..settings()
    };
    assert!(matches!(
        compare(&nowhere, &native, 1, TIME),
        Err(CompareError::Bare(BareError::Io { .. }))
    ));
    let without_gymnasium = HostConfiguration {
        python: "true".into(),
        ..settings()
    };
    assert!(matches!(
        compare(&without_gymnasium, &native, 1, TIME),
        Err(CompareError::Bare(BareError::Answer { .. }))
    ));
}
