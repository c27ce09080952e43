//! Who asks.

use std::{sync::Arc, time::Duration};

use locus_edge::{
    client::{
        HttpTerminal, Terminal,
        measured::{Measured, counted, request},
    },
    pipeline::Pipeline,
};
use locus_firmware_config::message::Request;
use locus_measure::{Ask, Outcome};

use crate::bare;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody whose requests have ids of a load's own.
pub(super) trait Tagged: Ask {
    /// From here on under this tag: an id that a box knows is answered from what it keeps.
    fn retag(&mut self, _tag: &Arc<str>) {}
}

/// Asks nobody.
#[derive(Clone)]
pub(super) struct Nothing;

impl Ask for Nothing {
    async fn ask(&mut self, _: u64) -> Outcome {
        tokio::task::yield_now().await;
        Outcome::Answered
    }
}

impl Tagged for Nothing {}

/// Asks nobody, on a thread that may block.
pub(super) struct BlockingNothing;

impl Ask for BlockingNothing {
    async fn ask(&mut self, _: u64) -> Outcome {
        match tokio::task::spawn_blocking(|| ()).await {
            Ok(()) => Outcome::Answered,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

impl Tagged for BlockingNothing {}

/// Asks a pipeline in this process.
pub(super) struct InProcess {
    pipeline: Pipeline,
    terminal: String,
    requests: Arc<[Request]>,
    tag: Arc<str>,
}

impl InProcess {
    pub(super) fn new(pipeline: Pipeline, terminal: String) -> Self {
        Self { pipeline, terminal, requests: bare::requests(), tag: "".into() }
    }
}

impl Ask for InProcess {
    async fn ask(&mut self, number: u64) -> Outcome {
        let request = request(&self.requests, &self.tag, number);
        counted(&*self.pipeline.ask(&self.terminal, "bench", Ok(request)).await)
    }
}

impl Tagged for InProcess {
    fn retag(&mut self, tag: &Arc<str>) {
        self.tag = Arc::clone(tag);
    }
}

impl Tagged for Measured {
    fn retag(&mut self, tag: &Arc<str>) {
        Self::retag(self, tag);
    }
}

/// A terminal of a box.
pub(super) fn measured(terminal: Terminal) -> Measured {
    Measured::new(terminal, bare::requests(), "".into(), PATIENCE)
}

/// A terminal whom an echo tells something that is no answer.
pub(super) struct Echoed(pub(super) Measured);

impl Ask for Echoed {
    async fn ask(&mut self, number: u64) -> Outcome {
        match self.0.outcome(number).await {
            Ok(_) => Outcome::Answered,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

impl Tagged for Echoed {
    fn retag(&mut self, tag: &Arc<str>) {
        self.0.retag(tag);
    }
}

/// Gets a page that is always the same.
pub(super) struct Ready(pub(super) HttpTerminal);

impl Ask for Ready {
    async fn ask(&mut self, _: u64) -> Outcome {
        let terminal = self.0.clone();
        match tokio::task::spawn_blocking(move || terminal.get("/ready")).await {
            Ok(Ok((200, _))) => Outcome::Answered,
            Ok(Ok((status, _))) => Outcome::Failed(format!("status {status}")),
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

impl Tagged for Ready {}
