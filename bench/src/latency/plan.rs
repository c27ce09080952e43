//! Which loads, and what came of them.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Result, ensure};
use locus_measure::{Kind, Load, Loaded, Series, Stage, closed, open};

use super::ask::Tagged;

/// Loads of every way.
pub(super) struct Plan {
    pub(super) load: Load,
    pub(super) clients: Vec<usize>,
    /// Rates of open loops, in percent of what the closed ones did.
    pub(super) shares: Vec<u32>,
    /// In requests a second, instead.
    pub(super) rates: Vec<f64>,
    /// Of an earlier run, by the name of the series.
    pub(super) earlier: BTreeMap<String, f64>,
    pub(super) seed: u64,
}

/// Everything that was measured so far.
pub(super) struct Book {
    pub(super) plan: Plan,
    pub(super) series: Vec<Series>,
    repeat: u64,
    loads: u64,
}

impl Book {
    pub(super) const fn new(plan: Plan) -> Self {
        Self { plan, series: Vec::new(), repeat: 0, loads: 0 }
    }

    /// The next repeat.
    pub(super) const fn turn(&mut self, repeat: u64) {
        self.repeat = repeat;
    }

    /// A load of a series, after those of the repeats before.
    pub(super) fn note(
        &mut self,
        name: &str,
        stage: Stage,
        kind: Kind,
        batch: usize,
        loaded: Loaded,
    ) -> Result<()> {
        println!("  {name}: {}", loaded.summary());
        ensure!(
            loaded.answered + loaded.abandoned > 0,
            "{name}: got no answer to {} requests, {}",
            loaded.asked,
            loaded.reasons.join("; ")
        );
        let at = self.series.iter().position(|series| series.name == name).unwrap_or_else(|| {
            let (name, warm_up_s) = (name.to_owned(), self.plan.load.warm_up.as_secs_f64());
            self.series.push(Series { name, stage, kind, batch, warm_up_s, repeats: Vec::new() });
            self.series.len() - 1
        });
        self.series[at].repeats.push(loaded);
        Ok(())
    }

    fn retag<A: Tagged>(&mut self, askers: &mut [A]) {
        self.loads += 1;
        let tag: Arc<str> = format!("bench-{}", self.loads).into();
        askers.iter_mut().for_each(|asker| asker.retag(&tag));
    }

    /// A closed loop of the first so many.
    pub(super) async fn closed<A: Tagged>(
        &mut self,
        name: &str,
        stage: Stage,
        mut askers: Vec<A>,
        clients: usize,
    ) -> Result<Vec<A>> {
        self.retag(&mut askers);
        let others = askers.split_off(clients.min(askers.len()));
        let (mut askers, loaded) = closed(askers, self.plan.load).await?;
        self.note(name, stage, Kind::Closed { clients }, 1, loaded)?;
        askers.extend(others);
        Ok(askers)
    }

    /// An open loop of all.
    pub(super) async fn open<A: Tagged>(
        &mut self,
        name: &str,
        stage: Stage,
        mut askers: Vec<A>,
        rate: f64,
    ) -> Result<Vec<A>> {
        self.retag(&mut askers);
        let clients = askers.len();
        let (askers, loaded) = open(askers, rate, self.plan.seed + self.repeat, self.plan.load).await?;
        self.note(name, stage, Kind::Open { rate, clients }, 1, loaded)?;
        Ok(askers)
    }

    /// Every load of the plan over one way.
    pub(super) async fn loads<A: Tagged>(
        &mut self,
        way: &str,
        stage: Stage,
        mut askers: Vec<A>,
    ) -> Result<Vec<A>> {
        let clients: Vec<usize> = self.plan.clients.iter().copied().filter(|n| *n <= askers.len()).collect();
        for clients in clients {
            askers = self.closed(&closed_name(way, clients), stage, askers, clients).await?;
        }
        for (name, rate) in self.rates(way) {
            askers = self.open(&name, stage, askers, rate).await?;
        }
        Ok(askers)
    }

    /// Open loops of a way: those of the first repeat in every other one.
    fn rates(&self, way: &str) -> Vec<(String, f64)> {
        if !self.plan.rates.is_empty() {
            return self.plan.rates.iter().map(|rate| (format!("{way}, open at {rate}/s"), *rate)).collect();
        }
        let capacity = self.series.iter().filter(|series| series.name.starts_with(&format!("{way}, closed")));
        let capacity =
            capacity.filter_map(|series| series.repeats.first()).map(Loaded::rate).fold(0.0, f64::max);
        let name = |share: &u32| (open_name(way, *share), f64::from(*share) / 100.0 * capacity);
        let rates = self.plan.shares.iter().map(name);
        rates
            .map(|(name, rate)| {
                let rate = self.plan.earlier.get(&name).copied().unwrap_or(rate);
                (name, rate)
            })
            .collect()
    }
}

/// Of a closed loop.
pub(super) fn closed_name(way: &str, clients: usize) -> String {
    format!("{way}, closed, {clients} client{}", if clients == 1 { "" } else { "s" })
}

/// Of an open loop.
pub(super) fn open_name(way: &str, share: u32) -> String {
    format!("{way}, open at {share} %")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::latency::ask::Nothing;

    fn plan() -> Plan {
        let load = Load { warm_up: Duration::from_millis(5), lasting: Duration::from_millis(50) };
        Plan {
            load,
            clients: vec![1, 4],
            shares: vec![50],
            rates: Vec::new(),
            earlier: BTreeMap::new(),
            seed: 1,
        }
    }

    #[tokio::test]
    async fn open_loops_keep_the_rates_of_the_first_repeat_or_of_an_earlier_run() {
        let mut book = Book::new(Plan { rates: vec![200.0], ..plan() });
        for repeat in 0..2 {
            book.turn(repeat);
            book.loads("way", Stage::Harness, vec![Nothing; 4]).await.unwrap();
        }
        let names: Vec<_> = book.series.iter().map(|series| (&*series.name, series.repeats.len())).collect();
        assert_eq!(
            names,
            [("way, closed, 1 client", 2), ("way, closed, 4 clients", 2), ("way, open at 200/s", 2)]
        );
        book.plan.rates.clear();
        let fastest = book.series[..2].iter().map(|series| series.repeats[0].rate()).fold(0.0, f64::max);
        assert_eq!(book.rates("way"), [("way, open at 50 %".to_owned(), fastest / 2.0)]);
        book.plan.earlier.insert("way, open at 50 %".into(), 7.0);
        assert_eq!(book.rates("way")[0].1, 7.0);
    }
}
