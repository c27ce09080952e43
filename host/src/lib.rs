//! The workbench: trains, evaluates and ships DNA language models.

#[macro_use(say, complain)]
extern crate locus_console;

pub mod align;
pub mod calibrate;
pub mod commands;
pub mod data;
pub mod device;
pub mod distill;
mod error;
pub mod evaluate;
pub mod explain;
pub mod files;
pub mod infer;
pub mod interchange;
pub mod language;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod nn;
pub mod packed;
pub mod panel;
pub mod progress;
pub mod prune;
pub mod quantise;
pub mod recipe;
pub mod report;
pub mod sequence;
pub mod sequence_model;
pub mod stage;
pub mod structure;
pub mod train;

pub use error::{Error, Result};
pub use recipe::{AnyRecipe, Recipe, SequenceRecipe};
