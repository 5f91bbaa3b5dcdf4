//! Environments of Python that fail while an unroll is collected.

use std::path::PathBuf;

use rookery_common::configuration::HostConfiguration;

use super::*;

/// Hosts with the interpreter that `ROOKERY_TEST_PYTHON` names, or that of the checkout's `.venv`.
fn hosts() -> HostConfiguration {
    let folder = |path: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    let of_checkout = folder("../.venv/bin/python");
    HostConfiguration {
        python: std::env::var_os("ROOKERY_TEST_PYTHON")
            .map(PathBuf::from)
            .or_else(|| of_checkout.exists().then_some(of_checkout))
            .expect("no Python with Gymnasium: run `make python-environments`"),
        python_path: vec![folder("tests/python")],
        max_restarts: 1,
        ..HostConfiguration::default()
    }
}

/// A collector of `peculiar:Failing`, which fails at the third step of every episode or only once.
fn failing(only_once: Option<&str>) -> (Collector, Instruction) {
    environments::hosted::configure(&hosts());
    let mut arguments = BTreeMap::from([("how".to_owned(), "os_exit".to_owned())]);
    arguments.extend(only_once.map(|file| ("only_once".to_owned(), format!("{file:?}"))));
    let batch = environments::make("peculiar:Failing", &arguments, 1).unwrap();
    let environment = batch.spec().clone();
    let spec = values(&environment, false).unwrap();
    let mut collector = collector(&environment, 0);
    Arc::make_mut(&mut collector.plan).arguments = arguments;
    (collector, version(&spec, APE_X, 0, &[]))
}

/// Both parts share the process's hosts, and the second leaves them given up.
#[test]
fn a_fault_makes_environments_anew_until_it_has_been_one_too_many() {
    let _alone = environments::hosted::POOL_TESTS.lock();
    let folder = std::env::temp_dir().join(format!("rookery-fails-once-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("failed");
    let (mut collector, version) = failing(file.to_str());
    collector.follow(version).unwrap();
    collector.follow(lease(0, None)).unwrap();
    let unroll = collect_one(&mut collector, ShardId(0), 0);
    assert!(file.exists(), "it has failed");
    std::fs::remove_dir_all(&folder).unwrap();
    let reason = unroll.discontinuity.unwrap();
    assert!(
        reason.contains("its host ended with exit code 7"),
        "{reason}"
    );
    assert_eq!(unroll.key.index, UnrollIndex(0));
    // Its beginning is another than that of the unroll that was given up.
    let mut fresh = collector.work.remove(&ShardId(0)).unwrap();
    assert!(
        fresh.shard.next_episode() >= 2,
        "{}",
        fresh.shard.next_episode()
    );
    assert_eq!(fresh.next_index, UnrollIndex(1));
    assert_eq!(fresh.faults.count, 0);
    assert_eq!(fresh.discontinuity, None);
    assert!(fresh.shard.recurrent_state().is_empty());
    drop(fresh);

    let (mut collector, version) = failing(None);
    collector.follow(version).unwrap();
    collector.follow(lease(0, None)).unwrap();
    let error = collector.collect(&[(ShardId(0), 0)]).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("actor.host.max_restarts = 1"), "{error}");
    environments::hosted::configure(&HostConfiguration::default());
}
