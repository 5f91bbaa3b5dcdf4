//! `rookery doctor`: whether this machine has what training needs, and what to do where not.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::Context as _;
use clap::Args;
use rookery_common::configuration::Configuration;
use rookery_common::exit::Exit;
use rookery_common::security::Address;
use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};
use serde::Deserialize;

use crate::children::Programs;
use crate::failure::Failure;
use crate::format;

/// Sockets, logs and libraries of a learner with a few hundred actors.
const WANTED_FILES: u64 = 1024;
/// Below this not even one learner and its actors can run.
const NEEDED_FILES: u64 = 128;
/// Checkpoints, logs and metrics of many runs.
const WANTED_DISK_BYTES: u64 = 1 << 30;
/// Below this the next checkpoint may not fit.
const NEEDED_DISK_BYTES: u64 = 64 << 20;

/// Check that this machine has what training needs
///
/// Looks for the programs, libtorch, processor features, free ports, file limits and disk space,
/// and says what to do about what is missing. The exit code is not zero where something is missing
/// that training cannot do without.
#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArguments {
    /// Where runs are to be kept [default: runs/]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    subject: &'static str,
    detail: String,
    /// What to do, where something is to be done.
    remedy: Option<String>,
}

impl Finding {
    fn ok(subject: &'static str, detail: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            subject,
            detail: detail.into(),
            remedy: None,
        }
    }

    fn warn(subject: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self {
            level: Level::Warn,
            subject,
            detail: detail.into(),
            remedy,
        }
    }

    fn fail(subject: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            ..Self::warn(subject, detail, remedy)
        }
    }
}

/// Looks at everything and prints it.
///
/// # Errors
/// Where something is missing that training cannot do without.
pub(crate) fn doctor(arguments: &DoctorArguments) -> anyhow::Result<()> {
    let programs = Programs::locate()?;
    let configuration = Configuration::default();
    let runs = arguments
        .run_dir
        .clone()
        .unwrap_or(configuration.run.directory);
    let mut findings = vec![actor_program(&programs)];
    findings.extend(learner_program(&programs));
    findings.push(processor());
    if let Address::Tcp { host, port, .. } = &configuration.learner.listen {
        findings.push(learner_port(host, *port));
    }
    findings.push(open_files());
    findings.push(disk(&runs)?);
    print!("{}", describe(&findings));
    let failed = findings
        .iter()
        .filter(|finding| finding.level == Level::Fail)
        .count();
    if failed == 0 {
        return Ok(());
    }
    let message = format!(
        "{failed} of {} checks failed; the remedies are above",
        findings.len()
    );
    Err(Failure::new(Exit::Unavailable, message).into())
}

fn describe(findings: &[Finding]) -> String {
    let mut rows = Vec::new();
    for finding in findings {
        let row = [
            finding.level.to_string(),
            finding.subject.to_owned(),
            finding.detail.clone(),
        ];
        rows.push(row.to_vec());
        if let Some(remedy) = &finding.remedy {
            rows.push(vec![String::new(), String::new(), format!("-> {remedy}")]);
        }
    }
    format::table(&rows)
}

fn actor_program(programs: &Programs) -> Finding {
    let subject = "rookery-actor";
    let program = match programs.actor(None) {
        Ok(program) => program,
        Err(error) => return missing(subject, &error),
    };
    match output(&program, &["--version"]) {
        Ok(version) => {
            let version = version.split_whitespace().last().unwrap_or_default();
            same_version(subject, version, &program)
        }
        Err(error) => Finding::fail(subject, format!("{error:#}"), "build it again"),
    }
}

/// What `rookery-learner version-report` prints.
#[derive(Debug, Deserialize)]
struct VersionReport {
    version: String,
    libtorch: String,
    cuda: bool,
    threads: Option<u64>,
}

fn learner_program(programs: &Programs) -> Vec<Finding> {
    let subject = "rookery-learner";
    let program = match programs.learner() {
        Ok(program) => program,
        Err(error) => return vec![missing(subject, &error)],
    };
    let report = output(&program, &["version-report"]).and_then(|text| {
        serde_json::from_str::<VersionReport>(&text).context("its version report is malformed")
    });
    match report {
        Ok(report) => {
            let device = if report.cuda {
                "with a usable GPU"
            } else {
                "on the processor"
            };
            let threads = report.threads.map(|threads| format!(", {threads} threads"));
            vec![
                same_version(subject, &report.version, &program),
                Finding::ok(
                    "libtorch",
                    format!(
                        "{}, {device}{}",
                        report.libtorch,
                        threads.unwrap_or_default()
                    ),
                ),
            ]
        }
        Err(error) => vec![Finding::fail(
            "libtorch",
            format!("{error:#}"),
            "run scripts/libtorch, then build rookery-learner again",
        )],
    }
}

/// What `error` says after its first part is the remedy.
fn missing(subject: &'static str, error: &Failure) -> Finding {
    let text = error.to_string();
    match text.split_once("; ") {
        Some((detail, remedy)) => Finding::fail(subject, detail, remedy),
        None => Finding::fail(subject, text, "build it"),
    }
}

fn same_version(subject: &'static str, version: &str, program: &Path) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    let detail = format!("{version} at {}", program.display());
    if version == own {
        return Finding::ok(subject, detail);
    }
    Finding::warn(
        subject,
        detail,
        format!("this is rookery {own}; build all programs together"),
    )
}

fn output(program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or_default();
        anyhow::bail!("{} failed ({}): {last}", program.display(), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn processor() -> Finding {
    let cores = available_parallelism().map_or(1, usize::from);
    let features = features();
    let present: Vec<&str> = features
        .iter()
        .filter(|(_, has)| *has)
        .map(|(name, _)| *name)
        .collect();
    let detail = format!(
        "{cores} core{}, {}",
        if cores == 1 { "" } else { "s" },
        if present.is_empty() {
            "no vector extensions".to_owned()
        } else {
            present.join(" ")
        }
    );
    let missing: Vec<&str> = features
        .iter()
        .filter(|(name, has)| !has && matches!(*name, "avx2" | "fma"))
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        let remedy = "it works, several times slower; use a processor of 2013 or later";
        return Finding::warn(
            "processor",
            format!("{detail}; lacks {}", missing.join(" ")),
            remedy,
        );
    }
    if cores < 2 {
        return Finding::warn(
            "processor",
            detail,
            "learner and actors will take turns; use two",
        );
    }
    Finding::ok("processor", detail)
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<(&'static str, bool)> {
    vec![
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ]
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<(&'static str, bool)> {
    vec![("neon", std::arch::is_aarch64_feature_detected!("neon"))]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<(&'static str, bool)> {
    Vec::new()
}

/// Whether the port that learners listen on by default is free. `rookery train` uses a Unix socket
/// instead, so a port in use is in nobody's way there.
fn learner_port(host: &str, port: u16) -> Finding {
    let subject = "learner's port";
    let Ok(ip) = host.parse() else {
        return Finding::ok(subject, format!("{host}:{port}, not checked: it is a name"));
    };
    let address = SocketAddr::new(ip, port);
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(subject, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Finding::warn(
            subject,
            format!("{address} is in use"),
            "for `rookery learner` choose another with --listen; `rookery train` needs none",
        ),
        Err(error) => Finding::warn(
            subject,
            format!("{address} cannot be listened on: {error}"),
            "for `rookery learner` choose another with --listen",
        ),
    }
}

fn open_files() -> Finding {
    // No limit is no problem.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    judge_open_files(limit)
}

fn judge_open_files(limit: u64) -> Finding {
    let subject = "open files";
    let detail = format!("a process may open {}", format::grouped(limit));
    let remedy = format!("raise the limit with `ulimit -n {WANTED_FILES}`");
    match limit {
        0..NEEDED_FILES => Finding::fail(subject, detail, remedy),
        NEEDED_FILES..WANTED_FILES => Finding::warn(subject, detail, remedy),
        _ => Finding::ok(subject, detail),
    }
}

fn disk(runs: &Path) -> anyhow::Result<Finding> {
    let runs = std::path::absolute(runs).context("there is no working directory")?;
    let existing = runs
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let is_read_only = fs::metadata(existing)
        .with_context(|| format!("cannot look at {}", existing.display()))?
        .permissions()
        .readonly();
    let space = statvfs(existing)
        .with_context(|| format!("cannot look at the disk of {}", existing.display()))?;
    if is_read_only {
        let detail = format!("{} cannot be written", existing.display());
        return Ok(Finding::fail(
            "disk",
            detail,
            "choose another place with --run-dir",
        ));
    }
    Ok(judge_disk(
        space.f_bavail.saturating_mul(space.f_frsize),
        &runs,
    ))
}

fn judge_disk(free_bytes: u64, runs: &Path) -> Finding {
    let detail = format!(
        "{} MiB free for {}",
        format::grouped(free_bytes >> 20),
        runs.display()
    );
    let remedy = "make room, or choose another place with --run-dir";
    match free_bytes {
        0..NEEDED_DISK_BYTES => Finding::fail("disk", detail, remedy),
        NEEDED_DISK_BYTES..WANTED_DISK_BYTES => Finding::warn("disk", detail, remedy),
        _ => Finding::ok("disk", detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_a_warning_and_none_a_failure() {
        let levels = [0, NEEDED_DISK_BYTES, WANTED_DISK_BYTES]
            .map(|free_bytes| judge_disk(free_bytes, Path::new("/runs")).level);
        assert_eq!(levels, [Level::Fail, Level::Warn, Level::Ok]);
        let levels = [10, 256, 65_536].map(|limit| judge_open_files(limit).level);
        assert_eq!(levels, [Level::Fail, Level::Warn, Level::Ok]);
    }

    #[test]
    fn a_port_in_use_is_seen() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(learner_port("127.0.0.1", port).level, Level::Warn);
    }

    #[test]
    fn a_missing_program_fails_with_its_remedy() {
        let error = Failure::usage("there is no rookery-actor in /bin; build it");
        let finding = missing("rookery-actor", &error);
        assert_eq!(
            finding,
            Finding::fail(
                "rookery-actor",
                "there is no rookery-actor in /bin",
                "build it"
            )
        );
        assert_eq!(
            describe(&[finding]),
            "FAIL  rookery-actor  there is no rookery-actor in /bin\n                     -> build it\n"
        );
    }

    #[test]
    fn another_release_is_pointed_out() {
        let program = Path::new("/bin/rookery-learner");
        assert_eq!(
            same_version("rookery-learner", "0.0.0", program).level,
            Level::Warn
        );
        let own = env!("CARGO_PKG_VERSION");
        assert_eq!(
            same_version("rookery-learner", own, program).level,
            Level::Ok
        );
    }
}
