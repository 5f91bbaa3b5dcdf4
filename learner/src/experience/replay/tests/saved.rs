//! Snapshots and what they are restored from.

use super::*;

fn filled(rounds: usize, capacity: usize) -> ReplayStore {
    let mut options = options(10, capacity);
    options.prioritised = Some(PrioritisedOptions {
        alpha: 1.0,
        epsilon: 0.0,
    });
    let mut store = ReplayStore::new(options).unwrap();
    for round in 0..rounds {
        store.insert(&[steps(10 * round, 10).unroll(0)]).unwrap();
    }
    let items = store.items();
    let errors: Vec<f32> = items.iter().map(|item| item.row as f32 + 0.5).collect();
    store.update_priorities(&items, &errors);
    store
}

fn saved(store: &ReplayStore) -> Vec<u8> {
    let mut bytes = Vec::new();
    let snapshot = store.snapshot();
    snapshot.write_to(&mut bytes).unwrap();
    assert!(bytes.len() as u64 >= snapshot.num_bytes());
    assert!(bytes.len() as u64 <= snapshot.num_bytes() + 64);
    bytes
}

#[test]
fn a_snapshot_does_not_see_what_is_inserted_later() {
    let mut store = filled(3, 25);
    let snapshot = store.snapshot();
    let before = saved(&store);
    for round in 3..9 {
        store.insert(&[steps(10 * round, 10).unroll(0)]).unwrap();
    }
    let mut after = Vec::new();
    snapshot.write_to(&mut after).unwrap();
    assert_eq!(after, before);
    assert_ne!(saved(&store), before);
}

#[test]
fn a_snapshot_is_written_by_another_thread_while_the_store_goes_on() {
    let mut store = filled(3, 25);
    let before = saved(&store);
    let snapshot = store.snapshot();
    let writer = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        snapshot.write_to(&mut bytes).map(|()| bytes)
    });
    store.insert(&[steps(30, 10).unroll(0)]).unwrap();
    assert_eq!(writer.join().unwrap().unwrap(), before);
}

#[test]
fn every_cut_and_every_addition_is_an_error() {
    let store = filled(3, 25);
    let bytes = saved(&store);
    for length in 0..bytes.len() {
        let cut = &mut &bytes[..length];
        assert!(ReplayStore::restore(store.options().clone(), cut).is_err());
    }
    let longer = [bytes, vec![0]].concat();
    assert!(matches!(
        ReplayStore::restore(store.options().clone(), &mut longer.as_slice()),
        Err(RestoreError::TrailingBytes)
    ));
}

#[test]
fn damaged_bytes_never_panic() {
    let store = filled(3, 25);
    let bytes = saved(&store);
    let mut batch = ReplayBatch::default();
    for place in 0..bytes.len() {
        for value in [0, 1, 2, 3, 127, 255] {
            let mut damaged = bytes.clone();
            damaged[place] = value;
            let restored = ReplayStore::restore(store.options().clone(), &mut damaged.as_slice());
            if let Ok(mut restored) = restored {
                let _ = restored.sample(4, 1.0, &mut random(0), &mut batch);
                restored.insert(&[steps(30, 10).unroll(0)]).unwrap();
                restored.sample(4, 1.0, &mut random(0), &mut batch).unwrap();
            }
        }
    }
}

#[test]
fn another_run_s_store_is_refused_with_the_difference() {
    let store = filled(1, 25);
    let bytes = saved(&store);
    let mut other = store.options().clone();
    other.shape.envs_per_shard = 2;
    let error = ReplayStore::restore(other, &mut bytes.as_slice()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the replay store was saved with environments: 1, this run has 2"
    );
}

#[test]
fn a_smaller_store_keeps_the_newest_and_a_larger_one_has_room() {
    let store = filled(3, 25);
    let bytes = saved(&store);
    for capacity in [12, 25, 1000] {
        let mut options = store.options().clone();
        options.capacity = capacity;
        let mut restored = ReplayStore::restore(options, &mut bytes.as_slice()).unwrap();
        let items = restored.items();
        let all = store.items();
        let kept = all.len().min(capacity - 1);
        assert_eq!(items, all[all.len() - kept..]);
        let read = |store: &ReplayStore| store.read(&items, &mut random(0)).observations;
        assert_eq!(read(&restored), read(&store));
        assert!(
            items
                .iter()
                .all(|item| restored.priority(*item) == store.priority(*item))
        );
        restored.insert(&[steps(30, 10).unroll(0)]).unwrap();
        let expected = (kept + 10).min(capacity - 1);
        assert_eq!(restored.num_items(), expected as u64);
    }
}

#[test]
fn priorities_begin_anew_where_none_were_saved() {
    let mut uniform = options(10, 25);
    let mut store = ReplayStore::new(uniform.clone()).unwrap();
    store.insert(&[steps(0, 10).unroll(0)]).unwrap();
    let bytes = saved(&store);
    uniform.prioritised = Some(PrioritisedOptions {
        alpha: 1.0,
        epsilon: 0.0,
    });
    let restored = ReplayStore::restore(uniform, &mut bytes.as_slice()).unwrap();
    let items = restored.items();
    assert!(items.iter().all(|item| restored.priority(*item) == 1.0));
    // And the other way round they are left out.
    let prioritised = filled(2, 25);
    let bytes = saved(&prioritised);
    let mut options = prioritised.options().clone();
    options.prioritised = None;
    let restored = ReplayStore::restore(options, &mut bytes.as_slice()).unwrap();
    assert_eq!(restored.items(), prioritised.items());
}

#[test]
fn longer_windows_than_those_that_were_saved_and_shorter_ones_can_be_sampled() {
    for (saved_with, restored_with) in [(1, 3), (3, 1)] {
        let mut options = filled(2, 25).options().clone();
        options.n_step = saved_with;
        let mut store = ReplayStore::new(options.clone()).unwrap();
        store.insert(&[steps(0, 10).unroll(0)]).unwrap();
        options.n_step = restored_with;
        let bytes = saved(&store);
        let restored = ReplayStore::restore(options, &mut bytes.as_slice()).unwrap();
        let items = restored.items();
        assert_eq!(items.len(), 11 - restored_with);
        assert!(items.iter().all(|item| restored.priority(*item) == 1.0));
    }
}
