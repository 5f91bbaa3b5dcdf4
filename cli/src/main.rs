//! `rookery`: trains, evaluates, compares and measures; the one program that people call.
//!
//! It holds no training logic: the learner and the actors are programs of their own, which
//! `train` starts as child processes and `learner` and `actor` become.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rookery_common::exit::Exit;

mod failure;
mod format;
mod source;
mod run_directory;
mod metrics_file;
mod children;
mod control;
mod cluster;
mod progress;
mod summary;
mod train;
mod evaluate;
mod digest;
mod inspect;
mod plot;
mod top;
mod presets;
mod doctor;
mod check_env;
mod launch;
mod bench;

/// Distributed reinforcement learning: many actors, one learner
///
/// Actors run environments and stream what happens over gRPC to a learner, which improves the
/// policy and sends it back. `rookery train cartpole-ppo` runs all of it on this machine.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::TrainArguments),
    Evaluate(evaluate::EvaluateArguments),
    Plot(plot::PlotArguments),
    Top(top::TopArguments),
    Digest(digest::DigestArguments),
    Inspect(inspect::InspectArguments),
    Presets(presets::PresetsArguments),
    Doctor(doctor::DoctorArguments),
    CheckEnv(check_env::CheckEnvArguments),
    Learner(launch::LearnerArguments),
    Actor(launch::ActorArguments),
    Bench(bench::BenchArguments),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap as well. Nobody is left to tell where printing
            // fails.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Ok.into()
            };
        }
    };
    match run(&arguments.command) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            eprintln!("rookery: {error:#}");
            failure::exit_of(&error).into()
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Train(arguments) => train::train(arguments),
        Command::Evaluate(arguments) => evaluate::evaluate(arguments),
        Command::Plot(arguments) => plot::plot(arguments),
        Command::Top(arguments) => top::top(arguments),
        Command::Digest(arguments) => digest::digest(arguments),
        Command::Inspect(arguments) => inspect::inspect(arguments),
        Command::Presets(arguments) => presets::presets(arguments),
        Command::Doctor(arguments) => doctor::doctor(arguments),
        Command::CheckEnv(arguments) => check_env::check_env(arguments),
        Command::Learner(arguments) => launch::learner(arguments),
        Command::Actor(arguments) => launch::actor(arguments),
        Command::Bench(arguments) => bench::bench(arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself() {
        let mut command = Arguments::command();
        command.build();
        let mut text = command.render_long_help().to_string();
        let mut pending: Vec<_> = command.get_subcommands().cloned().collect();
        pending.reverse();
        while let Some(mut subcommand) = pending.pop() {
            if subcommand.get_name() == "help" {
                continue;
            }
            text.push_str("\n========\n");
            text.push_str(&subcommand.render_long_help().to_string());
            let mut nested: Vec<_> = subcommand.get_subcommands().cloned().collect();
            nested.reverse();
            pending.extend(nested);
        }
        insta::assert_snapshot!(text);
    }
}
