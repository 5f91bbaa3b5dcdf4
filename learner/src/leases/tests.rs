use proptest::prelude::*;

use super::*;

fn leases(num_shards: usize, lag: u64) -> Leases {
    let mut leases = Leases::new(
        "run".to_owned(),
        1,
        Schedule::Synchronous { lag },
        0,
        vec![ShardPosition::default(); num_shards],
    );
    leases.published(u64::MAX);
    leases
}

fn join(leases: &mut Leases, threads: u32) -> (SessionId, Vec<Command>) {
    let id = leases.open(threads, usize::MAX).unwrap();
    let commands = leases.attach(id).unwrap();
    (id, commands)
}

fn granted(commands: &[Command], to: SessionId) -> Vec<Lease> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::Grant { session, lease } if *session == to => Some(lease.clone()),
            _ => None,
        })
        .collect()
}

fn key(lease: &Lease, index: u64) -> UnrollKey {
    UnrollKey {
        run_id: "run".to_owned(),
        shard: lease.shard,
        lease_epoch: lease.epoch,
        index: UnrollIndex(index),
    }
}

fn version(version: u64) -> PolicyVersion {
    PolicyVersion {
        learner_epoch: 1,
        version,
    }
}

#[test]
fn t22_an_unroll_is_admitted_once_and_acknowledged_again() {
    let mut leases = leases(1, 0);
    let (id, commands) = join(&mut leases, 1);
    let lease = &granted(&commands, id)[0];
    let state = Bytes::from_static(b"after 0");
    assert_eq!(
        leases.admit(id, &key(lease, 0), version(0), &state),
        Verdict::Admitted { update: 0 }
    );
    assert_eq!(
        leases.admit(id, &key(lease, 0), version(0), &state),
        Verdict::Duplicate
    );
    assert_eq!(
        leases.admit(id, &key(lease, 2), version(2), &state),
        Verdict::Gap {
            expected: UnrollIndex(1)
        }
    );
    assert_eq!(
        leases.admit(id, &key(lease, 1), version(0), &state),
        Verdict::WrongVersion { expected: 1 }
    );
    assert_eq!(
        leases.admit(id, &key(lease, 1), version(1), &state),
        Verdict::Admitted { update: 1 }
    );
}

#[test]
fn the_schedule_says_which_version_collects_which_unroll() {
    let mut leases = leases(1, 1);
    let (id, commands) = join(&mut leases, 1);
    let lease = &granted(&commands, id)[0];
    for (index, expected) in [(0, 0), (1, 0), (2, 1), (3, 2)] {
        assert_eq!(
            leases.admit(id, &key(lease, index), version(expected + 7), &Bytes::new()),
            Verdict::WrongVersion { expected }
        );
        assert_eq!(
            leases.admit(id, &key(lease, index), version(expected), &Bytes::new()),
            Verdict::Admitted { update: index }
        );
    }
}

#[test]
fn t21_a_dead_holder_is_fenced_and_the_next_one_starts_from_its_last_admitted_state() {
    let mut leases = leases(1, 0);
    let (first, commands) = join(&mut leases, 1);
    let old = granted(&commands, first)[0].clone();
    let state = Bytes::from_static(b"after 0");
    assert_eq!(
        leases.admit(first, &key(&old, 0), version(0), &state),
        Verdict::Admitted { update: 0 }
    );
    assert!(leases.close(first).is_empty());
    assert_eq!(
        leases.admit(first, &key(&old, 1), version(1), &state),
        Verdict::Stale
    );

    let (second, commands) = join(&mut leases, 1);
    let new = granted(&commands, second)[0].clone();
    assert!(new.epoch > old.epoch);
    assert_eq!((new.next_index, &new.state), (UnrollIndex(1), &state));
    assert_eq!(
        leases.admit(first, &key(&old, 1), version(1), &state),
        Verdict::Stale
    );
    assert_eq!(
        leases.admit(second, &key(&new, 1), version(1), &state),
        Verdict::Admitted { update: 1 }
    );
}

#[test]
fn unrolls_of_other_runs_learners_and_shards_are_refused() {
    let mut leases = leases(1, 0);
    let (id, commands) = join(&mut leases, 1);
    let lease = &granted(&commands, id)[0];
    let mut other = key(lease, 0);
    other.run_id = "another".to_owned();
    assert_eq!(
        leases.admit(id, &other, version(0), &Bytes::new()),
        Verdict::Stale
    );
    let resumed = PolicyVersion {
        learner_epoch: 2,
        version: 0,
    };
    assert_eq!(
        leases.admit(id, &key(lease, 0), resumed, &Bytes::new()),
        Verdict::Stale
    );
    let mut other = key(lease, 0);
    other.shard = ShardId(1);
    assert_eq!(
        leases.admit(id, &other, version(0), &Bytes::new()),
        Verdict::UnknownShard { num_shards: 1 }
    );
}

#[test]
fn nobody_sends_for_another_session() {
    let mut leases = leases(1, 0);
    let (first, commands) = join(&mut leases, 1);
    let (other, _) = join(&mut leases, 1);
    let lease = &granted(&commands, first)[0];
    assert_eq!(
        leases.admit(other, &key(lease, 0), version(0), &Bytes::new()),
        Verdict::Stale
    );
}

#[test]
fn what_is_admitted_is_bounded_by_what_is_published() {
    let mut leases = leases(1, 1);
    leases.published(0);
    let (id, commands) = join(&mut leases, 1);
    let lease = &granted(&commands, id)[0];
    for index in [0, 1] {
        assert_eq!(
            leases.admit(id, &key(lease, index), version(0), &Bytes::new()),
            Verdict::Admitted { update: index }
        );
    }
    assert_eq!(
        leases.admit(id, &key(lease, 2), version(1), &Bytes::new()),
        Verdict::Unpublished { newest: 0 }
    );
    leases.published(1);
    assert_eq!(
        leases.admit(id, &key(lease, 2), version(1), &Bytes::new()),
        Verdict::Admitted { update: 2 }
    );
}

#[test]
fn a_late_actor_gets_its_share_in_proportion_to_its_threads() {
    let mut leases = leases(12, 0);
    let (first, commands) = join(&mut leases, 1);
    assert_eq!(granted(&commands, first).len(), 12);
    let (second, commands) = join(&mut leases, 3);
    assert_eq!(granted(&commands, second).len(), 9);
    assert!(commands.iter().all(|command| match command {
        Command::Revoke { session, .. } => *session == first,
        Command::Grant { session, .. } => *session == second,
    }));
    // The one that leaves hands everything back.
    assert_eq!(granted(&leases.close(second), first).len(), 9);
    assert_eq!(leases.num_leased(), 12);
}

#[test]
fn a_session_beyond_the_shards_stands_by_and_takes_over() {
    let mut leases = leases(1, 0);
    let (first, _) = join(&mut leases, 1);
    let (standby, commands) = join(&mut leases, 1);
    assert!(commands.is_empty());
    assert_eq!(granted(&leases.close(first), standby).len(), 1);
}

#[test]
fn a_session_gets_no_more_than_it_can_carry() {
    let mut leases = leases(5, 0);
    let id = leases.open(1, 2).unwrap();
    assert_eq!(granted(&leases.attach(id).unwrap(), id).len(), 2);
    assert_eq!(leases.num_leased(), 2);
}

#[test]
fn a_restarted_shard_is_fenced_and_granted_again() {
    let mut leases = leases(2, 0);
    let (id, commands) = join(&mut leases, 1);
    let old = granted(&commands, id)[1].clone();
    let commands = leases.restart(id, old.shard);
    let new = granted(&commands, id)[0].clone();
    assert_eq!(new.shard, old.shard);
    assert_eq!(
        leases.admit(id, &key(&old, 0), version(0), &Bytes::new()),
        Verdict::Stale
    );
    assert_eq!(
        leases.admit(id, &key(&new, 0), version(0), &Bytes::new()),
        Verdict::Admitted { update: 0 }
    );
}

#[test]
fn nobody_restarts_a_shard_of_another_session() {
    let mut leases = leases(1, 0);
    let (holder, commands) = join(&mut leases, 1);
    let lease = granted(&commands, holder)[0].clone();
    let (other, _) = join(&mut leases, 1);
    assert_eq!(leases.restart(other, lease.shard), []);
    assert_eq!(
        leases.admit(holder, &key(&lease, 0), version(0), &Bytes::new()),
        Verdict::Admitted { update: 0 }
    );
}

#[test]
fn sessions_are_bounded_and_known_until_they_end() {
    let mut leases = leases(1, 0);
    let mut last = None;
    for _ in 0..MAX_SESSIONS {
        last = leases.open(1, 1);
        assert!(last.is_some());
    }
    assert_eq!(leases.open(1, 1), None);
    let last = last.unwrap();
    assert!(leases.is_open(last));
    leases.close(last);
    assert!(!leases.is_open(last));
    assert!(leases.open(1, 1).is_some());
}

#[test]
fn a_session_attaches_once_and_expires_only_before_that() {
    let mut leases = leases(1, 0);
    let id = leases.open(1, 1).unwrap();
    assert!(leases.attach(id).is_some());
    assert!(leases.attach(id).is_none());
    assert!(!leases.expire_unattached(id));
    let id = leases.open(1, 1).unwrap();
    assert!(leases.expire_unattached(id));
    assert!(leases.attach(id).is_none());
}

fn asynchronous(num_shards: usize, max_policy_lag: u64, unrolls_per_update: usize) -> Leases {
    Leases::new(
        "run".to_owned(),
        1,
        Schedule::Asynchronous {
            max_policy_lag,
            unrolls_per_update,
            max_queue_bytes: 1 << 20,
        },
        100,
        vec![ShardPosition::default(); num_shards],
    )
}

#[test]
fn an_asynchronous_fleet_has_a_shard_for_each_thread_and_reuses_those_that_are_left() {
    let mut leases = asynchronous(5, 0, 1);
    leases.published(100);
    let shards = |commands: &[Command], id| {
        let leases = granted(commands, id);
        leases.iter().map(|lease| lease.shard.0).collect::<Vec<_>>()
    };
    let (first, commands) = join(&mut leases, 1);
    assert_eq!(shards(&commands, first), [0]);
    let lease = granted(&commands, first)[0].clone();
    let state = Bytes::from_static(b"after 0");
    assert_eq!(
        leases.admit(first, &key(&lease, 0), version(100), &state),
        Verdict::Admitted { update: 100 }
    );
    let (second, commands) = join(&mut leases, 3);
    assert_eq!(shards(&commands, second), [1, 2, 3]);
    assert_eq!(commands.len(), 3, "nothing is taken from the first");
    assert_eq!(leases.num_leased(), 4);
    // Those of one that leaves are free, and the next one begins where it ended.
    assert!(leases.close(first).is_empty());
    assert_eq!(leases.num_leased(), 3);
    let (third, commands) = join(&mut leases, 4);
    assert_eq!(shards(&commands, third), [0, 4], "there are five in all");
    let lease = &granted(&commands, third)[0];
    assert_eq!((lease.next_index, &lease.state), (UnrollIndex(1), &state));
    // Whoever stands by with a thread to spare takes over.
    assert_eq!(shards(&leases.close(second), third), [1, 2]);
}

#[test]
fn t10_t11_the_lag_at_consumption_is_known_at_admission_and_bounded() {
    let mut leases = asynchronous(1, 1, 2);
    leases.published(100);
    let (id, commands) = join(&mut leases, 1);
    let lease = granted(&commands, id)[0].clone();
    let admit = |leases: &mut Leases, index, number| {
        leases.admit(id, &key(&lease, index), version(number), &Bytes::new())
    };
    for (index, update) in [(0, 100), (1, 100), (2, 101), (3, 101)] {
        assert_eq!(admit(&mut leases, index, 100), Verdict::Admitted { update });
    }
    let too_old = Verdict::TooOld {
        lag: 2,
        max_policy_lag: 1,
    };
    assert_eq!(admit(&mut leases, 4, 100), too_old);
    assert_eq!(
        admit(&mut leases, 4, 101),
        Verdict::Unpublished { newest: 100 }
    );
    leases.published(101);
    assert_eq!(
        admit(&mut leases, 4, 101),
        Verdict::Admitted { update: 102 }
    );
}

#[test]
fn an_unroll_that_is_too_old_costs_its_shard_nothing_but_itself() {
    let mut leases = asynchronous(1, 0, 1);
    leases.published(100);
    let (id, commands) = join(&mut leases, 1);
    let old = granted(&commands, id)[0].clone();
    let state = Bytes::from_static(b"after 0");
    assert_eq!(
        leases.admit(id, &key(&old, 0), version(100), &state),
        Verdict::Admitted { update: 100 }
    );
    assert_eq!(
        leases.admit(id, &key(&old, 1), version(100), &Bytes::new()),
        Verdict::TooOld {
            lag: 1,
            max_policy_lag: 0
        }
    );
    let commands = leases.restart(id, old.shard);
    let new = &granted(&commands, id)[0];
    assert_eq!((new.next_index, &new.state), (UnrollIndex(1), &state));
    leases.published(101);
    assert_eq!(
        leases.admit(id, &key(new, 1), version(101), &Bytes::new()),
        Verdict::Admitted { update: 101 }
    );
}

proptest! {
    /// Whatever is sent: what is admitted is consumed within the lag, in the order of admission, and
    /// the indices of a shard have no gap.
    #[test]
    fn asynchronous_admission_keeps_its_promises(
        max_policy_lag in 0_u64..4,
        unrolls_per_update in 1_usize..5,
        events in prop::collection::vec((0_usize..6, 0_u64..6), 1..200),
    ) {
        let mut leases = asynchronous(4, max_policy_lag, unrolls_per_update);
        leases.published(100);
        let (id, commands) = join(&mut leases, 4);
        let mut held = granted(&commands, id);
        let (mut newest, mut admitted) = (100, 0);
        for (event, age) in events {
            let Some(lease) = held.get(event).cloned() else {
                // The learner trains, where it has an update's worth.
                if newest < 100 + admitted / unrolls_per_update as u64 {
                    newest += 1;
                    leases.published(newest);
                }
                continue;
            };
            let collected_with = newest.saturating_sub(age);
            let key = key(&lease, lease.next_index.0);
            match leases.admit(id, &key, version(collected_with), &Bytes::new()) {
                Verdict::Admitted { update } => {
                    prop_assert_eq!(update, 100 + admitted / unrolls_per_update as u64);
                    prop_assert!(update - collected_with <= max_policy_lag);
                    admitted += 1;
                    held[event].next_index.0 += 1;
                }
                Verdict::TooOld { lag, .. } => {
                    prop_assert!(lag > max_policy_lag);
                    let again = granted(&leases.restart(id, lease.shard), id);
                    prop_assert_eq!(again[0].next_index, lease.next_index);
                    held[event] = again[0].clone();
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}

proptest! {
    /// Whatever comes and goes: each shard has one holder at most, both sides agree on who,
    /// epochs only grow, and nobody idles while somebody else could give.
    #[test]
    fn leases_stay_consistent(
        num_shards in 1_usize..40,
        events in prop::collection::vec((0_u8..4, 0_usize..8, 1_u32..5), 1..60),
    ) {
        let mut leases = leases(num_shards, 0);
        let mut alive: Vec<SessionId> = Vec::new();
        let mut last_epoch = LeaseEpoch(0);
        for (event, which, threads) in events {
            let commands = match event {
                0 | 1 => {
                    let (id, commands) = join(&mut leases, threads);
                    alive.push(id);
                    commands
                }
                2 if !alive.is_empty() => leases.close(alive.remove(which % alive.len())),
                _ => {
                    let shard = ShardId((which % num_shards) as u32);
                    match leases.shards[shard.0 as usize].holder {
                        Some(holder) => leases.restart(holder, shard),
                        None => Vec::new(),
                    }
                }
            };
            for command in commands {
                if let Command::Grant { lease, .. } = command {
                    prop_assert!(lease.epoch > last_epoch);
                    last_epoch = lease.epoch;
                }
            }
            let held: usize = leases.sessions.values().map(|s| s.shards.len()).sum();
            prop_assert_eq!(held, leases.num_leased());
            for (id, session) in &leases.sessions {
                for shard in &session.shards {
                    prop_assert_eq!(leases.shards[shard.0 as usize].holder, Some(*id));
                }
            }
            if !alive.is_empty() {
                prop_assert_eq!(held, num_shards);
                let highest = leases.sessions.values().map(|s| s.load(0)).fold(0.0, f64::max);
                let (_, lowest_after) = leases.least_loaded().unwrap();
                prop_assert!(highest <= lowest_after);
            }
        }
    }
}
