//! Terminals, and a model alone, under load.

use std::{sync::Arc, time::Duration};

use locus_engine::Scorer;
use locus_firmware_config::message::{FaultCode, Outcome, Request};
use locus_genome::encode::EncodedVariant;
use locus_measure::{Ask, Load, Loaded, Outcome as Measure, blocking};

use super::{ClientError, Terminal};

/// Asks one of some requests after the other, each with an id of its own: `TAG-NUMBER`.
#[derive(Debug)]
pub struct Measured {
    terminal: Terminal,
    requests: Arc<[Request]>,
    tag: Arc<str>,
    patience: Duration,
}

impl Measured {
    /// Waits so long for each outcome, and repeats nothing.
    pub const fn new(
        terminal: Terminal,
        requests: Arc<[Request]>,
        tag: Arc<str>,
        patience: Duration,
    ) -> Self {
        Self { terminal, requests, tag, patience }
    }

    /// Goes on under another tag.
    pub fn retag(&mut self, tag: &Arc<str>) {
        self.tag = Arc::clone(tag);
    }

    /// What comes back for the request of a number, whatever it is.
    ///
    /// # Errors
    /// As [`Terminal::ask`].
    pub async fn outcome(&mut self, number: u64) -> Result<Outcome, ClientError> {
        let request = request(&self.requests, &self.tag, number);
        self.terminal.ask(&request, self.patience).await
    }
}

/// The request of a number, with its id.
pub fn request(requests: &[Request], tag: &str, number: u64) -> Request {
    let chosen = requests.get((number % (requests.len() as u64).max(1)) as usize);
    Request { id: Some(format!("{tag}-{number}")), ..chosen.cloned().unwrap_or_default() }
}

/// What counts as what: an answer, a refusal that says "later", or neither.
pub fn counted(outcome: &Outcome) -> Measure {
    match outcome {
        Outcome::Answer(_) => Measure::Answered,
        Outcome::Fault(fault) if fault.code == FaultCode::Busy => Measure::Refused("busy".into()),
        Outcome::Fault(fault) => Measure::Failed(format!("{}: {}", fault.code.as_str(), fault.message)),
    }
}

/// A model alone, by a caller that waits: batches of so many of the variants, which are encoded, in turn.
pub fn scored(scorer: &mut Scorer, variants: &[EncodedVariant], batch: usize, load: Load) -> Loaded {
    let variants: Vec<_> = variants.iter().cycle().take(batch.max(variants.len())).cloned().collect();
    blocking(load, |number| {
        let from = (number as usize * batch) % (variants.len() - batch + 1);
        match scorer.score(&variants[from..from + batch]) {
            Ok(_) => Measure::Answered,
            Err(error) => Measure::Failed(error.to_string()),
        }
    })
}

impl Ask for Measured {
    async fn ask(&mut self, number: u64) -> Measure {
        match self.outcome(number).await {
            Ok(Outcome::Answer(answer)) if answer.id != request(&self.requests, &self.tag, number).id => {
                Measure::Failed(format!("got the answer to {:?}", answer.id))
            }
            Ok(outcome) => counted(&outcome),
            Err(error) => Measure::Failed(error.to_string()),
        }
    }
}
