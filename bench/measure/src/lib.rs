//! How Locus is measured: load in closed and open loop, histograms of latency, what a machine is, and files of results.

mod environment;
mod gaps;
mod latencies;
mod load;
mod results;

pub use environment::{Core, Environment, Temperature};
pub use gaps::Gaps;
pub use latencies::{FEW, Latencies, SHARES};
pub use load::{Ask, Load, LoadError, Loaded, Outcome, blocking, closed, open};
pub use results::{Kind, Results, ResultsError, SCHEMA, Series, Stage, median};
