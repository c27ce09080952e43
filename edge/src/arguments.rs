//! The command lines of both programs; completions and manual pages are made of them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::ctl::{
    access, annotate, ask, audit, backup, bench, cable, encode, init, journal, line_key, manual, simulate,
    slots, terminal, trust,
};

/// Configuration where none is named.
pub const CONFIG: &str = "/etc/locus/locusd.toml";

/// Arguments of `locusd`.
#[derive(Debug, Parser)]
#[command(name = "locusd", version, about = "Answers what a DNA model makes of a variant, on this box alone")]
pub struct Daemon {
    /// Configuration
    #[arg(long, default_value = CONFIG, global = true)]
    pub config: PathBuf,
    /// Instead of running
    #[command(subcommand)]
    pub command: Option<Instead>,
    /// How to run
    #[command(flatten)]
    pub run: Run,
}

/// How the daemon runs.
#[derive(Debug, Args)]
pub struct Run {
    /// Goes on behind damage in the journal, and writes it down; keep a copy of the folder first
    #[arg(long)]
    pub accept_journal_damage: bool,
    /// What is logged to standard error, such as info or locus_edge=debug
    #[arg(long, default_value = "info", env = "LOCUS_LOG")]
    pub log: String,
    /// Logs as JSON lines
    #[arg(long)]
    pub log_json: bool,
}

/// What the daemon's program does instead of running.
#[derive(Debug, Subcommand)]
pub enum Instead {
    /// Prints or checks the configuration
    #[command(subcommand)]
    Config(ConfigOrder),
}

/// What is asked of a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigOrder {
    /// Shows every value, defaults included
    Print,
    /// Shows the device profile, with what it inherits
    Profile,
    /// Says whether the daemon would take it
    Check,
}

/// Arguments of `locusctl`.
#[derive(Debug, Parser)]
#[command(name = "locusctl", version, about = "Sets up a box, flashes models, asks, and reads its journal")]
pub struct Ctl {
    /// Configuration of the box
    #[arg(long, default_value = CONFIG, global = true)]
    pub config: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub command: Order,
}

/// Commands of `locusctl`.
#[derive(Debug, Subcommand)]
pub enum Order {
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
    /// Asks the box from a screen, one question after the other
    Terminal(Box<terminal::TerminalArgs>),
    /// Asks the box as many terminals do, and counts what they are told
    Simulate(Box<simulate::SimulateArgs>),
    /// Measures how long terminals wait for this box, by asking it
    Bench(Box<bench::BenchArgs>),
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
    /// Prints what completes commands in a shell
    Completions(manual::CompletionsArgs),
    /// Writes the manual pages of locusctl and locusd
    Manual(manual::ManualArgs),
}
