//! The operator's command.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use locus_console::complain;
use locus_edge::{
    arguments::{Ctl, Order},
    config::Config,
    ctl::{
        access, annotate, ask, audit, backup, bench, cable, encode, init, journal, line_key, manual,
        place::{AwayArgs, Place},
        simulate, slots, terminal, trust,
    },
};

fn main() -> ExitCode {
    let ended = run(Ctl::parse());
    match ended.and_then(|code| locus_console::finish().context("writing to standard output").map(|()| code))
    {
        Ok(code) => code,
        Err(error) => {
            complain!("locusctl: {}", locus_console::whole(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Ctl) -> anyhow::Result<ExitCode> {
    let config = || Config::open(&arguments.config);
    let place = |away: &AwayArgs, lines| Place::of(&arguments.config, away, lines);
    match &arguments.command {
        Order::Keygen(args) => init::keygen(args),
        Order::Cable(args) => cable::run(args),
        Order::LineKey(args) => line_key::run(args),
        Order::Completions(args) => manual::completions(args),
        Order::Manual(args) => manual::pages(args),
        Order::Init => init::init(&config()?),
        Order::Flash(args) => slots::flash(&config()?, args),
        Order::Slots(args) => slots::show(&config()?, args),
        Order::Remove(args) => slots::remove(&config()?, args),
        Order::Rollback(args) => slots::roll_back(&config()?, args),
        Order::Confirm(args) => slots::end_trial(&config()?, args, true),
        Order::Revert(args) => slots::end_trial(&config()?, args, false),
        Order::Trust(command) => trust::run(&config()?, command),
        Order::Enroll(args) => access::enroll(&config()?, args),
        Order::Access(command) => access::run(&config()?, command),
        Order::Audit(args) => audit::run(&config()?, args),
        Order::Status => slots::status(&config()?),
        Order::Clock(args) => slots::clock(&config()?, args),
        Order::Ask(args) => ask::run(&place(&args.away, args.way.is_line())?, args),
        Order::Annotate(args) => annotate::run(&place(&args.away, false)?, args),
        Order::Terminal(args) => terminal::run(&place(&args.away, args.way.is_line())?, args),
        Order::Simulate(args) => simulate::run(&place(&args.away, args.is_lines())?, args),
        Order::Bench(args) => bench::run(&config()?, args),
        Order::Encode(args) => encode::run(&config()?, args),
        Order::Backup(args) => backup::make(&config()?, &arguments.config, args),
        Order::Restore(args) => backup::restore(&arguments.config, args),
        Order::Decommission(args) => backup::end(&config()?, args),
        Order::Journal(command) => journal::run(config, command),
    }
}
