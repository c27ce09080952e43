//! `locusctl flash`, `slots`, `rollback`, `remove`, `status`: over the running daemon where there is one, else by themselves.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::fetch;
use crate::{
    config::Config,
    control::{Order, order},
    flashing::{Flasher, damaged_notices},
    slots::{FileSlotStore, MAX_CRASHES, SlotError, Slots, Step},
    state::StateDir,
    vfs::OsVfs,
};

/// What to flash.
#[derive(Clone, Debug, clap::Args)]
pub struct FlashArgs {
    /// A signed bundle, a folder with one, or an https address
    pub bundle: PathBuf,
    /// Certificates (PEM) that an https address is checked by [default: the system's]
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// How to show slots.
#[derive(Clone, Debug, clap::Args)]
pub struct SlotsArgs {
    /// The model; may be left out where the box has one
    #[arg(long)]
    pub model: Option<String>,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// What to take out.
#[derive(Clone, Debug, clap::Args)]
pub struct RemoveArgs {
    /// The model
    #[arg(long)]
    pub model: String,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn told(config: &Config, what: &Order) -> Result<Option<Value>> {
    told_with(config, what, &|_| {})
}

fn told_with(config: &Config, what: &Order, tell: &dyn Fn(&Step)) -> Result<Option<Value>> {
    order(&StateDir::new(&config.state), what, tell).map_err(|reason| anyhow!(reason))
}

fn show_step(step: &Step) {
    match step {
        Step::Verify => complain!("verifying signatures and parts"),
        Step::Unpack { bytes } => complain!("unpacking {bytes} bytes"),
        Step::Built { done, of, bucket } => complain!("engine {done} of {of} built, for {bucket} tokens"),
        Step::SelfTest => complain!("comparing golden vectors"),
        Step::Trial => complain!("changing over, on trial"),
    }
}

fn print_report(report: &Value, running: bool, json: bool) {
    if json {
        say!("{report}");
        return;
    }
    let text = |key: &str| report[key].as_str().unwrap_or("-").to_owned();
    let serves = match running {
        true if report["unchanged"] == json!(true) => "serves already",
        true if report["on_trial"] == json!(true) => "serves on trial",
        true => "serves now",
        false => "is active and serves once locusd runs",
    };
    say!("{} {} {serves} ({})", text("name"), text("version"), text("digest"));
    if let Some(golden) = report["golden"].as_object() {
        match golden["skipped"].as_str() {
            Some(reason) => say!("self-test skipped: {reason}"),
            None => say!(
                "self-test: {} golden vectors on {}, largest difference {} of {} allowed",
                golden["vectors"],
                text("provider"),
                golden["largest_difference"],
                golden["tolerance"]
            ),
        }
    }
    say!("previous {}, floor {}", text("previous"), report["floor"]);
    for warning in report["warnings"].as_array().into_iter().flatten() {
        complain!("locusctl: {}", warning.as_str().unwrap_or_default());
    }
}

/// Flashes a bundle.
///
/// # Errors
/// Why it is refused; the old model serves on.
pub fn flash(config: &Config, args: &FlashArgs) -> Result<ExitCode> {
    let fetched = fetch::bundle(&args.bundle, args.ca.as_deref(), &config.state)?;
    let path = fetched.path().to_owned();
    let silent = args.json;
    let tell = move |step: &Step| {
        if !silent {
            show_step(step);
        }
    };
    let (report, running) = match told_with(config, &Order::Flash(path.clone()), &tell)? {
        Some(report) => (report, true),
        None => {
            let report = Flasher::open(config)?.flash_telling(&path, None, Arc::new(tell))?;
            (serde_json::to_value(report)?, false)
        }
    };
    print_report(&report, running, args.json);
    Ok(ExitCode::SUCCESS)
}

/// Goes back.
///
/// # Errors
/// Why it is refused; the active model serves on.
pub fn roll_back(config: &Config, args: &SlotsArgs) -> Result<ExitCode> {
    let (report, running) = match told(config, &Order::Rollback(args.model.clone()))? {
        Some(report) => (report, true),
        None => {
            (serde_json::to_value(Flasher::open(config)?.roll_back(args.model.as_deref(), None)?)?, false)
        }
    };
    print_report(&report, running, args.json);
    Ok(ExitCode::SUCCESS)
}

/// Ends the trial of the running daemon, well or badly.
///
/// # Errors
/// No daemon, or no trial.
pub fn end_trial(config: &Config, args: &SlotsArgs, well: bool) -> Result<ExitCode> {
    let model = args.model.clone();
    let what = if well { Order::Confirm(model) } else { Order::Revert(model) };
    let told = told(config, &what)?;
    if well {
        let report = told.context("no daemon runs, and no trial outlives one")?;
        print_report(&report, true, args.json);
        return Ok(ExitCode::SUCCESS);
    }
    let digest = match told {
        Some(digest) => digest,
        None => json!(Flasher::open(config)?.revert(args.model.as_deref(), None, "by order")?),
    };
    match args.json {
        true => say!("{}", json!({"reverted": digest})),
        false => {
            say!(
                "the trial of {} has ended; the model before it, if there was one, serves",
                digest.as_str().unwrap_or("-")
            )
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the slots, without disturbing anything.
///
/// # Errors
/// The record cannot be read.
pub fn show(config: &Config, args: &SlotsArgs) -> Result<ExitCode> {
    let dir = StateDir::new(&config.state).slots();
    let record = FileSlotStore::peek(&OsVfs, &dir)?;
    for notice in damaged_notices(&FileSlotStore::damaged_copies(&OsVfs, &dir)?) {
        complain!("locusctl: {notice}");
    }
    let packs = StateDir::new(&config.state).packs();
    for notice in damaged_notices(&FileSlotStore::damaged_copies(&OsVfs, &packs)?) {
        complain!("locusctl: {notice}");
    }
    let mut record = record;
    record.models.extend(FileSlotStore::peek(&OsVfs, &packs)?.models);
    if let Some(model) = &args.model {
        let known: Vec<String> = record.models.keys().cloned().collect();
        ensure!(record.models.contains_key(model), SlotError::UnknownModel { got: model.clone(), known });
        record.models.retain(|name, _| name == model);
    }
    if args.json {
        say!("{}", serde_json::to_string(&record)?);
        return Ok(ExitCode::SUCCESS);
    }
    for (name, slots) in &record.models {
        show_model(name, slots);
    }
    if record.models.is_empty() {
        say!("no model");
    }
    Ok(ExitCode::SUCCESS)
}

fn show_model(name: &str, slots: &Slots) {
    say!("{}", if name.is_empty() { "(named at the next start)" } else { name });
    for (slot, digest) in [("active", &slots.active), ("previous", &slots.previous), ("trial", &slots.trial)]
    {
        say!("  {slot:<9} {}", digest.as_deref().unwrap_or("-"));
    }
    say!("  {:<9} {}", "floor", slots.floor);
    if slots.crashes > 0 {
        say!("  {:<9} {} of {MAX_CRASHES} ends of the daemon without an answer", "crashes", slots.crashes);
    }
    if let Some(digest) = &slots.set_back {
        say!("  {:<9} {digest}, with which the daemon ended again and again", "set back");
    }
}

/// Takes a model out of the slots.
///
/// # Errors
/// Why it stays.
pub fn remove(config: &Config, args: &RemoveArgs) -> Result<ExitCode> {
    let digest = match told(config, &Order::Remove(args.model.clone()))? {
        Some(digest) => digest,
        None => json!(Flasher::open(config)?.remove(&args.model, None)?),
    };
    match args.json {
        true => say!("{}", json!({"model": args.model, "removed": digest})),
        false => say!("{} is taken out ({})", args.model, digest.as_str().unwrap_or("it did not serve")),
    }
    Ok(ExitCode::SUCCESS)
}

/// How to look at the clock.
#[derive(Clone, Debug, clap::Args)]
pub struct ClockArgs {
    /// Believes what it reads now: you have looked at it
    #[arg(long)]
    pub accept: bool,
}

/// Shows whether the daemon trusts its clock; exit code 1 where it does not.
///
/// # Errors
/// No daemon runs.
pub fn clock(config: &Config, args: &ClockArgs) -> Result<ExitCode> {
    let report = told(config, &Order::Clock { accept: args.accept })?
        .context("no daemon runs, and the clock is judged by one")?;
    say!("{report}");
    Ok(if report["state"] == json!("trusted") { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows how the daemon is; exit code 1 where it answers no requests.
///
/// # Errors
/// No daemon runs.
pub fn status(config: &Config) -> Result<ExitCode> {
    let report = told(config, &Order::Health)?
        .with_context(|| format!("no daemon runs on {}; start locusd", config.state.display()))?;
    say!("{}", serde_json::to_string_pretty(&report)?);
    Ok(if report["ready"] == json!(true) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
