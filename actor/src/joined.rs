//! What the learner says at Join, read and bounded: nothing is allocated in proportion to a number
//! that no sound run has.

use std::time::Duration;

use rookery_common::policy::{Exploration, PolicySpec};
use rookery_common::spaces::EnvironmentSpec;
use rookery_common::unroll::{FrameLayout, UnrollShape};
use rookery_common::wire::WireError;
use rookery_proto::v1;

use crate::collector::{CollectionPlan, Pacing};

/// Most versions, beside the newest, that are kept for unrolls still to be collected.
const MAX_LAG: u32 = 64;

/// What the learner said at Join.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The session's number.
    pub session: u64,
    /// What collectors work by.
    pub plan: CollectionPlan,
    /// What to act with.
    pub policy: PolicySpec,
    /// How the run explores.
    pub exploration: Exploration,
    /// A session that is silent for this long is ended.
    pub lease_timeout: Duration,
    /// Environment steps between two evaluations; 0: none are wanted.
    pub evaluation_every_env_steps: u64,
    /// Episodes in each.
    pub evaluation_episodes: u32,
}

impl Joined {
    /// Reads the reply to an actor of this environment, whose unrolls must fit a message of
    /// `max_message_bytes`.
    ///
    /// # Errors
    /// Names the first field that is missing, absurd, or for another environment.
    pub fn read(
        reply: v1::JoinReply,
        environment: &EnvironmentSpec,
        max_message_bytes: usize,
    ) -> Result<Self, WireError> {
        let policy: PolicySpec = reply
            .policy
            .ok_or_else(|| WireError::missing("policy"))?
            .try_into()?;
        if !policy.fits(&environment.observation, &environment.action) {
            return Err(WireError::new(
                "policy",
                format!(
                    "one that sees {} and acts in {}",
                    environment.observation, environment.action
                ),
                format!("{:?} and {:?}", policy.encoder, policy.head),
            ));
        }
        let exploration = reply
            .exploration
            .map_or(Ok(Exploration::None), Exploration::try_from)?;
        exploration.validate(&policy.head)?;
        let shape = UnrollShape {
            unroll_length: reply.unroll_length as usize,
            envs_per_shard: reply.envs_per_shard as usize,
            observation_width: environment.observation.width(),
            action_width: environment.action.width(),
            state_width: policy.state_width(),
            frames: FrameLayout::of(&environment.observation),
        };
        check_shape(&shape, max_message_bytes)?;
        // An evaluation steps all its episodes at once, as a step of that many environments.
        let evaluation = UnrollShape {
            unroll_length: 1,
            envs_per_shard: reply.evaluation_episodes as usize,
            // Seen as rows, all of them at once.
            frames: None,
            ..shape
        };
        if evaluation.num_bytes() > max_message_bytes as u128 {
            return Err(WireError::new(
                "evaluation_episodes",
                format!("episodes whose steps fit a message of {max_message_bytes} bytes"),
                reply.evaluation_episodes.to_string(),
            ));
        }
        if reply.lag > MAX_LAG {
            return Err(WireError::new(
                "lag",
                format!("at most {MAX_LAG}"),
                reply.lag.to_string(),
            ));
        }
        let pacing = match reply.max_unacknowledged {
            None => Pacing::Synchronous {
                lag: u64::from(reply.lag),
            },
            Some(0) => {
                return Err(WireError::new("max_unacknowledged", "at least 1", "0"));
            }
            Some(unrolls) => Pacing::Asynchronous {
                max_unacknowledged: u64::from(unrolls),
            },
        };
        Ok(Self {
            session: reply.session,
            plan: CollectionPlan {
                run_id: reply.run_id,
                learner_epoch: reply.learner_epoch,
                seed: reply.seed,
                shape,
                pacing,
                environment: environment.id.clone(),
                arguments: environment.arguments.clone(),
                wrappers: environment.wrappers.clone(),
            },
            policy,
            exploration,
            lease_timeout: Duration::from_millis(reply.lease_timeout_milliseconds.max(1)),
            evaluation_every_env_steps: reply.evaluation_every_env_steps,
            evaluation_episodes: reply.evaluation_episodes,
        })
    }
}

/// Checks that an unroll is not empty and fits a message.
fn check_shape(shape: &UnrollShape, max_message_bytes: usize) -> Result<(), WireError> {
    for (field, value) in [
        ("envs_per_shard", shape.envs_per_shard),
        ("unroll_length", shape.unroll_length),
    ] {
        if value == 0 {
            return Err(WireError::new(field, "at least 1", "0"));
        }
    }
    let step = UnrollShape {
        unroll_length: 1,
        ..*shape
    };
    for (field, value, shape) in [
        ("envs_per_shard", shape.envs_per_shard, &step),
        ("unroll_length", shape.unroll_length, shape),
    ] {
        let got = shape.num_bytes();
        if got > max_message_bytes as u128 {
            return Err(WireError::new(
                field,
                format!(
                    "unrolls of at most {max_message_bytes} bytes; raise `learner.max_message` or \
                     make unrolls smaller"
                ),
                format!("{value}, which makes {got} bytes"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rookery_common::policy::{Activation, Recurrent, RecurrentCell, ValueDistribution};
    use rookery_common::spaces::Space;

    use super::*;

    const MAX_MESSAGE_BYTES: usize = 1 << 20;

    fn environment() -> EnvironmentSpec {
        EnvironmentSpec {
            id: "CartPole-v1".to_owned(),
            arguments: BTreeMap::new(),
            observation: Space::bounded(&[-1.0; 4], &[1.0; 4]),
            action: Space::Discrete { n: 2 },
            max_episode_steps: Some(500),
            goal: None,
            wrappers: Vec::new(),
            action_mask: false,
        }
    }

    fn policy(action: &Space) -> PolicySpec {
        PolicySpec::action_values(
            &environment().observation,
            action,
            vec![8],
            Activation::Relu,
            false,
            ValueDistribution::Expectation,
            false,
        )
        .unwrap()
    }

    fn reply() -> v1::JoinReply {
        v1::JoinReply {
            run_id: "run".to_owned(),
            learner_epoch: 1,
            session: 7,
            policy: Some((&policy(&environment().action)).into()),
            seed: 3,
            envs_per_shard: 4,
            unroll_length: 16,
            lag: 1,
            lease_timeout_milliseconds: 1000,
            evaluation_every_env_steps: 0,
            evaluation_episodes: 20,
            exploration: Some(Exploration::EpsilonGreedy { per_shard: None }.into()),
            max_unacknowledged: None,
        }
    }

    fn read(reply: v1::JoinReply) -> Result<Joined, WireError> {
        Joined::read(reply, &environment(), MAX_MESSAGE_BYTES)
    }

    #[test]
    fn a_sound_reply_is_read_whole() {
        let joined = read(reply()).unwrap();
        assert_eq!(joined.policy, policy(&environment().action));
        assert_eq!(
            joined.exploration,
            Exploration::EpsilonGreedy { per_shard: None }
        );
        assert_eq!(joined.session, 7);
        assert_eq!(joined.plan.pacing, Pacing::Synchronous { lag: 1 });
        assert_eq!(joined.plan.shape.num_steps(), 64);
        let mut silent = reply();
        silent.exploration = None;
        assert_eq!(read(silent).unwrap().exploration, Exploration::None);
        let mut asynchronous = reply();
        asynchronous.max_unacknowledged = Some(2);
        let pacing = Pacing::Asynchronous {
            max_unacknowledged: 2,
        };
        assert_eq!(read(asynchronous).unwrap().plan.pacing, pacing);
    }

    #[test]
    fn absurd_replies_are_refused_with_the_field() {
        type Change = fn(&mut v1::JoinReply);
        let refused: [(&str, Change); 13] = [
            ("envs_per_shard", |reply| reply.envs_per_shard = 0),
            ("unroll_length", |reply| reply.unroll_length = 0),
            ("envs_per_shard", |reply| reply.envs_per_shard = u32::MAX),
            ("unroll_length", |reply| reply.unroll_length = u32::MAX),
            ("envs_per_shard", |reply| {
                (reply.envs_per_shard, reply.unroll_length) = (u32::MAX, u32::MAX);
            }),
            ("evaluation_episodes", |reply| {
                reply.evaluation_episodes = u32::MAX;
            }),
            ("lag", |reply| reply.lag = 65),
            ("max_unacknowledged", |reply| {
                reply.max_unacknowledged = Some(0);
            }),
            ("policy", |reply| reply.policy = None),
            ("policy", |reply| {
                reply.policy = Some((&policy(&Space::Discrete { n: 3 })).into());
            }),
            ("policy", |reply| {
                let policy = reply.policy.as_mut().unwrap();
                policy.encoder = Some(v1::policy_spec::Encoder::IdentityWidth(5));
            }),
            ("exploration", |reply| {
                reply.exploration = Some(v1::Exploration { kind: None });
            }),
            ("exploration", |reply| {
                reply.exploration = Some(Exploration::GaussianNoise { std: 0.1 }.into());
            }),
        ];
        for (field, change) in refused {
            let mut reply = reply();
            change(&mut reply);
            assert_eq!(read(reply).unwrap_err().field, field);
        }
    }

    #[test]
    fn a_recurrent_policy_makes_unrolls_with_states_that_are_bounded_too() {
        let recurrent = |units, envs_per_shard| {
            let mut reply = reply();
            let environment = environment();
            let spec = PolicySpec::new(
                &environment.observation,
                &environment.action,
                vec![1],
                Activation::Relu,
            );
            let layer = Recurrent {
                cell: RecurrentCell::Lstm,
                units,
            };
            let spec = spec.unwrap().with_recurrent(Some(layer)).unwrap();
            reply.policy = Some((&spec).into());
            (reply.exploration, reply.envs_per_shard) = (None, envs_per_shard);
            read(reply)
        };
        assert_eq!(recurrent(5, 4).unwrap().plan.shape.state_width, 10);
        // The states of 64 environments are more than a message holds, those of 20 episodes too.
        let refused = |units, envs| recurrent(units, envs).unwrap_err().field;
        assert_eq!(refused(8192, 64), "envs_per_shard");
        assert_eq!(refused(8192, 4), "evaluation_episodes");
    }

    #[test]
    fn an_unroll_may_fill_a_message_and_no_more() {
        // 4 environments: 30 bytes a step each, and 16 for the last observation.
        let fits = |unroll_length| {
            let mut reply = reply();
            reply.unroll_length = unroll_length;
            read(reply).is_ok()
        };
        let most = ((MAX_MESSAGE_BYTES - 64) / (4 * 30)) as u32;
        assert!(fits(most));
        assert!(!fits(most + 1));
    }

    proptest! {
        /// Whatever a learner says, what an actor allocates for it is bounded.
        #[test]
        fn no_reply_makes_large_unrolls(
            envs_per_shard: u32,
            unroll_length: u32,
            evaluation_episodes: u32,
            lag: u32,
        ) {
            let mut reply = reply();
            reply.envs_per_shard = envs_per_shard;
            reply.unroll_length = unroll_length;
            reply.evaluation_episodes = evaluation_episodes;
            reply.lag = lag;
            if let Ok(joined) = read(reply) {
                prop_assert!(joined.plan.shape.num_bytes() <= MAX_MESSAGE_BYTES as u128);
                let is_bounded = matches!(
                    joined.plan.pacing,
                    Pacing::Synchronous { lag } if lag <= u64::from(MAX_LAG)
                );
                prop_assert!(is_bounded);
                prop_assert!(joined.evaluation_episodes < 1 << 16);
            }
        }
    }
}
