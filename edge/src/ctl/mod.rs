//! What `locusctl` does, one file a command.

pub mod access;
pub mod ask;
pub mod audit;
pub mod backup;
pub mod cable;
pub mod encode;
mod fetch;
pub mod init;
pub mod journal;
pub mod line_key;
pub mod slots;
pub mod trust;
