//! Every parser of bytes that come from outside, each with the property that it must keep. What is fed to them lies in
//! `corpus`, one folder a target; the driver is this crate's program.

pub mod corpus;
pub mod drive;
mod memory;
pub mod mutate;
pub mod seeds;
mod targets;

pub use targets::{TARGETS, clean, named};

/// One parser, or several of one format.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Reads the bytes; panics where the property does not hold.
    pub run: fn(&[u8]),
    /// Longest case, in bytes.
    pub longest: usize,
    /// Most memory that a case may take beyond its own bytes, in bytes.
    pub memory: usize,
    /// Words of the format, for mutations.
    pub words: &'static [&'static str],
}
