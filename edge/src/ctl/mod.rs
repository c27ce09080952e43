//! What `locusctl` does, one file a command.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod access;
pub mod annotate;
mod answer;
pub mod ask;
pub mod audit;
pub mod backup;
pub mod bench;
pub mod cable;
mod chance;
pub mod encode;
mod fetch;
pub mod init;
pub mod journal;
pub mod line_key;
pub mod manual;
pub mod place;
mod reach;
pub mod simulate;
pub mod slots;
pub mod terminal;
pub mod trust;
