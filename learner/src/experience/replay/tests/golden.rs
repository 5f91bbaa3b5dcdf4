//! The store against `scripts/golden/replay.py`.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Golden {
    windows: Vec<WindowCase>,
    priorities: Vec<PriorityCase>,
}

#[derive(Deserialize)]
struct WindowCase {
    name: String,
    discount: f64,
    n_step: usize,
    unrolls: Vec<GoldenUnroll>,
    items: Vec<GoldenItem>,
}

#[derive(Deserialize)]
struct GoldenUnroll {
    observation: Vec<f32>,
    action: Vec<f32>,
    reward: Vec<f32>,
    terminated: Vec<u8>,
    truncated: Vec<u8>,
    final_observation: Vec<f32>,
    discontinuous: bool,
}

#[derive(Deserialize)]
struct GoldenItem {
    observation: f32,
    action: f32,
    #[serde(rename = "return")]
    return_: f32,
    discount: f32,
    next_observation: f32,
}

#[derive(Deserialize)]
struct PriorityCase {
    alpha: f64,
    beta: f64,
    epsilon: f64,
    td_errors: Vec<f32>,
    probabilities: Vec<f64>,
    batch: Vec<usize>,
    weights: Vec<f32>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../tests/golden/replay.json")).unwrap()
}

/// Holds T1 and T27: what ends a window, and what its value is bootstrapped from.
#[test]
fn t1_t27_windows_agree_with_sums_over_each_episode() {
    for case in golden().windows {
        let unroll_length = case.unrolls[0].reward.len();
        let mut store = ReplayStore::new(ReplayOptions {
            discount: case.discount,
            n_step: case.n_step,
            ..options(unroll_length, 1000)
        })
        .unwrap();
        for unroll in case.unrolls {
            let columns = Columns {
                observation: unroll.observation,
                action: unroll.action,
                reward: unroll.reward,
                terminated: unroll.terminated,
                truncated: unroll.truncated,
                final_observation: unroll.final_observation,
                discontinuous: unroll.discontinuous,
            };
            store.insert(&[columns.unroll(0)]).unwrap();
        }
        let items = store.items();
        assert_eq!(items.len(), case.items.len(), "{}", case.name);
        let batch = store.read(&items, &mut random(0));
        for (index, expected) in case.items.iter().enumerate() {
            let name = format!("{}, item {index}", case.name);
            assert_eq!(batch.observations[index], expected.observation, "{name}");
            assert_eq!(batch.actions[index], expected.action, "{name}");
            assert_eq!(
                batch.next_observations[index], expected.next_observation,
                "{name}"
            );
            for (got, expected) in [
                (batch.returns[index], expected.return_),
                (batch.discounts[index], expected.discount),
            ] {
                assert!((got - expected).abs() <= 1e-6 * expected.abs(), "{name}");
            }
        }
    }
}

#[test]
fn t28_probabilities_and_weights_agree_with_the_paper() {
    for case in golden().priorities {
        let count = case.td_errors.len();
        let mut store = ReplayStore::new(ReplayOptions {
            prioritised: Some(PrioritisedOptions {
                alpha: case.alpha,
                epsilon: case.epsilon,
            }),
            ..options(count, 100)
        })
        .unwrap();
        store.insert(&[steps(0, count).unroll(0)]).unwrap();
        let items = store.items();
        store.update_priorities(&items, &case.td_errors);
        let total: f64 = items.iter().map(|item| store.priority(*item)).sum();
        for (item, expected) in items.iter().zip(&case.probabilities) {
            let probability = store.priority(*item) / total;
            assert!((probability - expected).abs() < 1e-12 + 1e-9 * expected);
        }
        let mut weights = vec![0.0; case.batch.len()];
        let priorities = store.priorities.as_ref().unwrap();
        priorities.weigh(&case.batch, case.beta, &mut weights);
        for (weight, expected) in weights.iter().zip(&case.weights) {
            assert!((weight - expected).abs() < 1e-6, "{weight}, {expected}");
        }
    }
}
