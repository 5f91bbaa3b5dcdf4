//! Which host carries which environments, and when to try again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use rookery_common::configuration::HostConfiguration;

use super::description;
use super::group::{Group, Shared};
use super::process::{Host, OpenError, locked};
use super::{HostedBatch, HostedError};

/// The first wait before a host is restarted, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The hosts of a process. They are started when environments are asked for, carry `groups` batches each,
/// all of one thread unless hosts are `shared`, and end with the last of these.
#[derive(Debug)]
pub struct HostPool {
    settings: HostConfiguration,
    /// Held while a host is looked for or started; groups are opened without it.
    hosts: Mutex<Vec<Entry>>,
    has_free_core: Arc<AtomicBool>,
    spin: Arc<AtomicU64>,
    restarts: Arc<AtomicU32>,
}

/// A host, and the thread that had it started.
#[derive(Debug)]
struct Entry {
    host: Weak<Host>,
    thread: ThreadId,
}

impl HostPool {
    /// A pool without hosts.
    #[must_use]
    pub fn new(settings: HostConfiguration) -> Self {
        Self {
            settings,
            hosts: Mutex::default(),
            has_free_core: Arc::default(),
            spin: Arc::default(),
            restarts: Arc::default(),
        }
    }

    /// How its hosts are run.
    #[must_use]
    pub fn settings(&self) -> &HostConfiguration {
        &self.settings
    }

    /// The number of hosts that run.
    #[must_use]
    pub fn num_hosts(&self) -> usize {
        let hosts = locked(&self.hosts);
        let living = hosts.iter().filter_map(|entry| entry.host.upgrade());
        living.filter(|host| host.end().is_none()).count()
    }

    /// Makes a batch of `num_envs` instances of the environment that Python knows as `id`. Where
    /// hosts have failed, it first waits, longer each time.
    ///
    /// # Errors
    /// What Python answers, or that hosts fail again and again.
    pub fn make(
        &self,
        id: &str,
        arguments: &BTreeMap<String, String>,
        num_envs: usize,
    ) -> Result<HostedBatch, HostedError> {
        self.open(id, arguments, num_envs, false)
    }

    /// As [`make`](Self::make), of instances that draw themselves where they can, which costs time.
    ///
    /// # Errors
    /// As [`make`](Self::make).
    pub fn make_visible(
        &self,
        id: &str,
        arguments: &BTreeMap<String, String>,
        num_envs: usize,
    ) -> Result<HostedBatch, HostedError> {
        self.open(id, arguments, num_envs, true)
    }

    fn open(
        &self,
        id: &str,
        arguments: &BTreeMap<String, String>,
        num_envs: usize,
        pictures: bool,
    ) -> Result<HostedBatch, HostedError> {
        let mut last = String::new();
        loop {
            self.wait_after_restarts(&last)?;
            let host = self.host_with_room()?;
            match host.open(id, arguments, num_envs, pictures) {
                Ok(reply) => {
                    let description =
                        description::read(id, arguments, &reply).map_err(HostedError::Refused)?;
                    let shared = Shared {
                        has_free_core: Arc::clone(&self.has_free_core),
                        spin: Arc::clone(&self.spin),
                        restarts: Arc::clone(&self.restarts),
                        timeout: self.settings.step_timeout.get(),
                    };
                    let group = Group::new(host, shared, id, reply, &description.observation)
                        .map_err(HostedError::Refused)?;
                    return Ok(HostedBatch::new(description, group, num_envs));
                }
                Err(OpenError::Unknown(message)) => return Err(HostedError::Unknown(message)),
                Err(OpenError::Refused(message)) => return Err(HostedError::Refused(message)),
                Err(OpenError::Died(how)) => {
                    last = format!("its host {how}");
                    tracing::error!(environment = id, error = last, "no environments were made");
                }
            }
        }
    }

    /// Waits for as long as the restarts so far ask for.
    fn wait_after_restarts(&self, last: &str) -> Result<(), HostedError> {
        let restarts = self.restarts.load(Ordering::Relaxed);
        if restarts == 0 {
            return Ok(());
        }
        if restarts > self.settings.max_restarts {
            let last = if last.is_empty() { "see above" } else { last };
            return Err(HostedError::Refused(format!(
                "hosts failed {restarts} times without 1,000 steps in between, more than \
                 actor.host.max_restarts = {} allow; last: {last}",
                self.settings.max_restarts
            )));
        }
        // Restarts of many actors that failed in one moment must not fall into one moment.
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(BACKOFF.0)
            .with_max_delay(BACKOFF.1)
            .without_max_times()
            .with_jitter()
            .build();
        let delay = delays.nth(restarts as usize - 1).unwrap_or(BACKOFF.1);
        tracing::warn!(restarts, ?delay, "a host of environments is started again");
        thread::sleep(delay);
        Ok(())
    }

    /// A host that has room for a group of this thread, started where there is none.
    fn host_with_room(&self) -> Result<Arc<Host>, HostedError> {
        let mut hosts = locked(&self.hosts);
        hosts.retain(|entry| {
            entry
                .host
                .upgrade()
                .is_some_and(|host| host.end().is_none())
        });
        let thread = thread::current().id();
        // Each group holds its host once.
        let mut room = hosts
            .iter()
            .filter(|entry| self.settings.shared || entry.thread == thread)
            .filter(|entry| entry.host.strong_count() < self.settings.groups);
        if let Some(host) = room.find_map(|entry| entry.host.upgrade()) {
            return Ok(host);
        }
        let host = Host::start(&self.settings, Arc::clone(&self.restarts))
            .map_err(HostedError::NoPython)?;
        let host = Arc::new(host);
        hosts.push(Entry {
            host: Arc::downgrade(&host),
            thread,
        });
        self.share_cores(hosts.len());
        Ok(host)
    }

    /// Says what so many hosts mean. Where they and the collectors cannot all have a core, whoever looks
    /// for an answer would only keep others from working.
    fn share_cores(&self, num_hosts: usize) {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let has_free_core = num_hosts < cores;
        // Elsewhere a number could be seen before what it stands for, and the doorbell is in between.
        let spin = if has_free_core && cfg!(target_arch = "x86_64") {
            self.settings.spin.get().as_nanos() as u64
        } else {
            0
        };
        self.has_free_core.store(has_free_core, Ordering::Relaxed);
        self.spin.store(spin, Ordering::Relaxed);
    }
}
