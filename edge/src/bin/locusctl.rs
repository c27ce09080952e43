//! The operator's command.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use locus_edge::{
    complain,
    config::Config,
    ctl::{
        access, annotate, ask, audit, backup, cable, encode, init, journal, line_key, out, simulate, slots,
        trust,
    },
};

#[derive(Parser)]
#[command(name = "locusctl", version, about = "Sets up a box, flashes models, asks, and reads its journal")]
struct Arguments {
    /// Configuration of the box
    #[arg(long, default_value = "/etc/locus/locusd.toml", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the state folder, the keys of the box and its own certificate authority
    Init,
    /// Makes a recipient's keys: the private one never comes near the box
    Keygen(init::KeygenArgs),
    /// Verifies a signed bundle, proves it on this device and serves with it
    Flash(slots::FlashArgs),
    /// Shows which model is in which slot
    Slots(slots::SlotsArgs),
    /// Goes back to the previous model
    Rollback(slots::SlotsArgs),
    /// Takes a model out of the slots; its floor stays
    Remove(slots::RemoveArgs),
    /// Ends the trial well: the flashed model stays
    Confirm(slots::SlotsArgs),
    /// Ends the trial badly: the model before serves again
    Revert(slots::SlotsArgs),
    /// Shows or replaces the document that says whose models this box takes
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Issues a certificate or token to whoever may use the box over a network
    Enroll(access::EnrollArgs),
    /// Shows, renews and revokes what was issued
    #[command(subcommand)]
    Access(access::AccessCommand),
    /// Shows every attempt to change what this box runs or trusts
    Audit(audit::AuditArgs),
    /// Shows how the running daemon is
    Status,
    /// Shows whether the daemon trusts its clock
    Clock(slots::ClockArgs),
    /// Asks the box as a terminal does
    Ask(Box<ask::AskArgs>),
    /// Writes a VCF with what the box makes of each allele
    Annotate(Box<annotate::AnnotateArgs>),
    /// Asks the box as many terminals do, and counts what they are told
    Simulate(Box<simulate::SimulateArgs>),
    /// Shows what the model would read of requests: token ids, track, features
    Encode(encode::EncodeArgs),
    /// Makes the key of a serial line, for box and terminal
    LineKey(line_key::LineKeyArgs),
    /// Links two pseudo-terminals, to try a serial terminal without hardware
    Cable(cable::CableArgs),
    /// Seals keys, slot record, trust and configuration of the box to a recipient
    Backup(backup::BackupArgs),
    /// Puts a backup back into an empty state folder
    Restore(backup::RestoreArgs),
    /// Destroys every key and every result of the box
    Decommission(backup::DecommissionArgs),
    /// Verifies, decrypts, proves, recalls, erases and offloads the journal
    #[command(subcommand)]
    Journal(journal::JournalCommand),
}

fn main() -> ExitCode {
    let ended = run(Arguments::parse());
    match ended.and_then(|code| out::finish().context("writing to standard output").map(|()| code)) {
        Ok(code) => code,
        Err(error) => {
            complain!("locusctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = || Config::open(&arguments.config);
    match &arguments.command {
        Command::Keygen(args) => init::keygen(args),
        Command::Cable(args) => cable::run(args),
        Command::LineKey(args) => line_key::run(args),
        Command::Init => init::init(&config()?),
        Command::Flash(args) => slots::flash(&config()?, args),
        Command::Slots(args) => slots::show(&config()?, args),
        Command::Remove(args) => slots::remove(&config()?, args),
        Command::Rollback(args) => slots::roll_back(&config()?, args),
        Command::Confirm(args) => slots::end_trial(&config()?, args, true),
        Command::Revert(args) => slots::end_trial(&config()?, args, false),
        Command::Trust(command) => trust::run(&config()?, command),
        Command::Enroll(args) => access::enroll(&config()?, args),
        Command::Access(command) => access::run(&config()?, command),
        Command::Audit(args) => audit::run(&config()?, args),
        Command::Status => slots::status(&config()?),
        Command::Clock(args) => slots::clock(&config()?, args),
        Command::Ask(args) => ask::run(&config()?, args),
        Command::Annotate(args) => annotate::run(&config()?, args),
        Command::Simulate(args) => simulate::run(&config()?, args),
        Command::Encode(args) => encode::run(&config()?, args),
        Command::Backup(args) => backup::make(&config()?, &arguments.config, args),
        Command::Restore(args) => backup::restore(&arguments.config, args),
        Command::Decommission(args) => backup::end(&config()?, args),
        Command::Journal(command) => journal::run(config, command),
    }
}
