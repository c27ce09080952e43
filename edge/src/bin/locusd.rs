//! The daemon of a box.

use std::process::ExitCode;

use clap::Parser as _;
use locus_console::{complain, say};
use locus_edge::{
    arguments::{ConfigOrder, Daemon, Instead, Run},
    config::Config,
    daemon::{self, seal_memory},
};
use tracing_subscriber::{
    Layer as _, filter::filter_fn, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// What is freed is written over: it may have been a patient's sequence.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    match start(Daemon::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("locusd: {}", locus_console::whole(&error));
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Daemon) -> anyhow::Result<()> {
    let config = Config::open(&arguments.config)?;
    match arguments.command {
        Some(Instead::Config(ConfigOrder::Print)) => {
            locus_console::write(format_args!("{}", toml::to_string(&config)?));
        }
        Some(Instead::Config(ConfigOrder::Profile)) => {
            locus_console::write(format_args!("{}", toml::to_string_pretty(&config.device_profile()?)?));
        }
        Some(Instead::Config(ConfigOrder::Check)) => {
            daemon::check(&config)?;
            config.exposed().iter().for_each(|exposed| say!("warning: {exposed}"));
            say!("{}: good", arguments.config.display());
        }
        None => {
            log(&arguments.run)?;
            seal_memory()?;
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(daemon::run(config, arguments.run.accept_journal_damage, |endpoints| {
                say!("ready {}", serde_json::to_string(endpoints).unwrap_or_default());
            }))?;
        }
    }
    Ok(locus_console::finish()?)
}

/// Libraries see payloads: whatever is asked for, they say warnings only, and ONNX Runtime errors only.
fn may_say(metadata: &tracing::Metadata<'_>) -> bool {
    let (level, target) = (*metadata.level(), metadata.target());
    let of =
        |name: &str| target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    match () {
        () if of("locus_edge") || of("locus_engine") || of("locus_genome") || of("locusd") => true,
        // The broker's warnings name topics, and these may hold a request's id.
        () if of("ort") || of("mqtt5") => level <= tracing::Level::ERROR,
        () => level <= tracing::Level::WARN,
    }
}

fn log(run: &Run) -> anyhow::Result<()> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let lines = if run.log_json { lines.json().boxed() } else { lines.boxed() };
    tracing_subscriber::registry()
        .with(tracing_subscriber::EnvFilter::try_new(&run.log)?)
        .with(filter_fn(may_say))
        .with(lines)
        .init();
    Ok(())
}
