//! What runs on the box: slots, pipeline, transports and the encrypted journal.

#[macro_use(say, complain)]
extern crate locus_console;

pub mod access;
pub mod arguments;
pub mod audit;
pub mod backup;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod ctl;
pub mod daemon;
pub mod decommission;
pub mod flashing;
pub mod health;
pub mod journal;
pub mod keys;
pub mod names;
pub mod pipeline;
pub mod slots;
pub mod state;
pub mod traces;
pub mod transport;
pub mod trust;
pub mod unproven;
pub mod vfs;
pub mod watch;
pub mod watchdog;
