//! What was seen in all rounds, as figures beside their bars.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;

use super::{load::Seen, model::Which};
use crate::{
    figures::{Results, Run},
    sample::summary,
};

/// Percentiles and rate of one that was asked, by how many clients, in each round.
pub(super) struct Shown {
    which: Which,
    command: String,
    /// In the order in which they came first.
    all: Vec<(String, BTreeMap<usize, Vec<Seen>>)>,
}

/// A quantity: its name, its unit, how it is taken, and whether more is better.
type Quantity = (&'static str, &'static str, fn(&Seen) -> f64, bool);

const QUANTITIES: [Quantity; 3] = [
    ("p50", "ms", |seen| seen.p50, false),
    ("p99", "ms", |seen| seen.p99, false),
    ("answers", "/s", |seen| seen.rate, true),
];

impl Shown {
    pub(super) const fn new(which: Which, command: String) -> Self {
        Self { which, command, all: Vec::new() }
    }

    pub(super) fn add(&mut self, name: &str, clients: usize, seen: Seen) {
        println!("{name}, {clients}: p50 {:.3} ms, p99 {:.3} ms, {:.1}/s", seen.p50, seen.p99, seen.rate);
        if !self.all.iter().any(|(known, _)| known == name) {
            self.all.push((name.to_owned(), BTreeMap::new()));
        }
        for (known, runs) in &mut self.all {
            if known == name {
                runs.entry(clients).or_default().push(seen);
            }
        }
    }

    /// How many times as good the box is as a service must be.
    fn bar(&self, quantity: &str) -> Option<f64> {
        match (self.which, quantity) {
            (Which::Edge, "p50") => Some(3.0),
            (Which::Edge, _) => Some(5.0),
            (Which::BertBase, "p99") => None,
            (Which::BertBase, _) => Some(2.5),
        }
    }

    pub(super) fn write(&self, out: &Path) -> Result<()> {
        let (run, mut figures) = (Run::of(&self.command), Vec::new());
        let of_box = &self.all[0];
        let mut clients: Vec<usize> = self.all.iter().flat_map(|(_, runs)| runs.keys().copied()).collect();
        clients.sort_unstable();
        clients.dedup();
        for clients in clients {
            for (name, runs) in &self.all {
                let Some(runs) = runs.get(&clients) else { continue };
                let own = of_box.1.get(&clients).filter(|_| name.starts_with("FastAPI"));
                for (quantity, unit, value, more) in QUANTITIES {
                    let (median, least, most) = summary(runs.iter().map(value).collect());
                    let times = own.map(|own| {
                        let ratio = |(own, other): (&Seen, &Seen)| match more {
                            true => value(own) / value(other),
                            false => value(other) / value(own),
                        };
                        let (median, least, most) = summary(own.iter().zip(runs).map(ratio).collect());
                        let bar = self.bar(quantity).map(|bar| format!("; bar {bar}"));
                        let bar = bar.unwrap_or_default();
                        format!("Locus {median:.2} times as good ({least:.2} to {most:.2}){bar}")
                    });
                    let who = format!("{clients} {}", if clients == 1 { "client" } else { "clients" });
                    let spread = format!("{least:.3} to {most:.3} in {} rounds", runs.len());
                    figures.push(run.figure(
                        format!("{who}: {name}, {quantity}"),
                        median,
                        unit,
                        spread,
                        times,
                    ));
                }
            }
        }
        let (title, model) = match self.which {
            Which::Edge => (
                "Beside other services, edge model",
                "The shipped variant model. Peers run its FP32 graph, or the same weights in PyTorch; rows are padded to the 64 tokens that \
                 the graph takes at most. The box makes track and features of the transcript; peers are sent them ready, which favours them.",
            ),
            Which::BertBase => (
                "Beside other services, BERT-base",
                "The reference's shape with random weights: 12 layers of 768, 12 heads, 3,072, rows of 128 tokens; vocabulary 69 instead of \
                 66, as Locus has five special tokens. One row a question; the box runs it in INT8, peers in FP32.",
            ),
        };
        let about = format!(
            "{model} Clients ask one after the other on connections that stay open, on the same machine; the box over HTTPS with its record \
             durable first, peers over plain HTTP with nothing kept. All run in turn in every round, each started anew, and every peer's \
             probabilities agree with Locus' in FP32 to 1e-4 before its clock runs. As the reference runs it: FastAPI and \
             uvicorn[standard] with 4 workers and defaults. Tuned: orjson, no access log, and of four settings of workers and threads \
             the one with most answers a second for that number of clients. The value is the median of the rounds."
        );
        Results { title, about, figures }.write(out)
    }
}
