//! What the terminals of a simulation were told.

use std::{collections::BTreeMap, time::Duration};

use locus_firmware_config::message::{Outcome, Request};
use serde::Serialize;

/// Of one transport.
#[derive(Debug, Default)]
pub(super) struct Tally {
    times: Vec<Duration>,
    answered: BTreeMap<String, u64>,
    faults: BTreeMap<&'static str, u64>,
    asked_again: u64,
    wrong_id: u64,
    missing: u64,
    /// Why the last one is missing.
    why: Option<String>,
}

/// The same, to be read.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    pub(super) requests: u64,
    pub(super) answers: u64,
    answered: &'a BTreeMap<String, u64>,
    faults: &'a BTreeMap<&'static str, u64>,
    asked_again: u64,
    wrong_id: u64,
    missing: u64,
    why: Option<&'a str>,
    ms: Times,
}

#[derive(Debug, Serialize)]
struct Times {
    p50: f64,
    p90: f64,
    p99: f64,
    worst: f64,
}

impl Tally {
    /// Counts what came of a request that took so long.
    pub(super) fn add(
        &mut self,
        request: &Request,
        outcome: &anyhow::Result<Outcome>,
        repeats: usize,
        took: Duration,
    ) {
        self.asked_again += repeats as u64;
        let id = match outcome {
            Ok(Outcome::Answer(answer)) => &answer.id,
            // Of what the box could not read, and of what it turned away at the door, it knows no id.
            Ok(Outcome::Fault(fault)) if fault.id.is_none() => &request.id,
            Ok(Outcome::Fault(fault)) => &fault.id,
            Err(error) => {
                self.missing += 1;
                self.why = Some(locus_console::whole(error));
                return;
            }
        };
        if *id != request.id {
            self.wrong_id += 1;
            return;
        }
        match outcome {
            Ok(Outcome::Answer(answer)) => {
                self.times.push(took);
                let said = answer.prediction.as_ref().map_or(answer.band.as_str(), |p| p.label.as_str());
                *self.answered.entry(said.to_owned()).or_default() += 1;
            }
            Ok(Outcome::Fault(fault)) => *self.faults.entry(fault.code.as_str()).or_default() += 1,
            Err(_) => {}
        }
    }

    pub(super) fn join(&mut self, other: Self) {
        self.times.extend(other.times);
        for (said, n) in other.answered {
            *self.answered.entry(said).or_default() += n;
        }
        for (code, n) in other.faults {
            *self.faults.entry(code).or_default() += n;
        }
        self.asked_again += other.asked_again;
        self.wrong_id += other.wrong_id;
        self.missing += other.missing;
        self.why = other.why.or(self.why.take());
    }

    /// Whether every request had an outcome, and its own.
    pub(super) fn is_good(&self) -> bool {
        self.missing + self.wrong_id == 0
    }

    pub(super) fn shown(&mut self) -> Shown<'_> {
        self.times.sort_unstable();
        let ms = |share: f64| {
            let rank = (share * self.times.len() as f64).ceil() as usize;
            let time = self.times.get(rank.clamp(1, self.times.len().max(1)) - 1);
            time.copied().unwrap_or_default().as_secs_f64() * 1e3
        };
        let answers = self.times.len() as u64;
        Shown {
            requests: answers + self.faults.values().sum::<u64>() + self.wrong_id + self.missing,
            answers,
            answered: &self.answered,
            faults: &self.faults,
            asked_again: self.asked_again,
            wrong_id: self.wrong_id,
            missing: self.missing,
            why: self.why.as_deref(),
            ms: Times { p50: ms(0.5), p90: ms(0.9), p99: ms(0.99), worst: ms(1.0) },
        }
    }
}

impl Shown<'_> {
    /// For people.
    pub(super) fn lines(&self, transport: &str) -> Vec<String> {
        let counts = |of: Vec<(&str, u64)>| {
            let parts: Vec<_> = of.into_iter().map(|(what, n)| format!("{what} {n}")).collect();
            if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
        };
        let faults: u64 = self.faults.values().sum();
        let mut lines = vec![
            format!(
                "  {transport:<6} {} requests: {} answers{}, {faults} faults{}, {} missing, {} with a wrong id, {} asked again",
                self.requests,
                self.answers,
                counts(self.answered.iter().map(|(said, n)| (said.as_str(), *n)).collect()),
                counts(self.faults.iter().map(|(code, n)| (*code, *n)).collect()),
                self.missing,
                self.wrong_id,
                self.asked_again,
            ),
            format!(
                "         answered in {:.2} ms (p50), {:.2} ms (p90), {:.2} ms (p99), {:.2} ms (worst)",
                self.ms.p50, self.ms.p90, self.ms.p99, self.ms.worst
            ),
        ];
        lines.extend(self.why.map(|why| format!("         missing because: {why}")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use locus_firmware_config::message::{Fault, FaultCode};

    use super::*;

    #[test]
    fn only_an_outcome_for_the_request_itself_counts() {
        let request = Request { id: Some("a".into()), ..Request::default() };
        let fault = |id: Option<&str>| {
            Ok(Outcome::Fault(Fault::new(FaultCode::Busy, "x").for_id(id.map(str::to_owned))))
        };
        let mut tally = Tally::default();
        tally.add(&request, &fault(Some("a")), 0, Duration::ZERO);
        tally.add(&request, &fault(None), 2, Duration::ZERO);
        assert!(tally.is_good());
        let mut other = Tally::default();
        other.add(&request, &fault(Some("b")), 0, Duration::ZERO);
        assert!(!other.is_good());
        let mut none = Tally::default();
        none.add(&request, &Err(anyhow::anyhow!("gone")), 1, Duration::ZERO);
        assert!(!none.is_good());
        tally.join(other);
        tally.join(none);
        let shown = tally.shown();
        assert_eq!((shown.requests, shown.wrong_id, shown.missing, shown.asked_again), (4, 1, 1, 3));
        assert!(shown.lines("http").iter().any(|line| line.contains("gone")));
    }
}
