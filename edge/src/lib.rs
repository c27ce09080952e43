//! What runs on the box: slots, pipeline, transports and the encrypted journal.

pub mod clock;
pub mod journal;
pub mod keys;
pub mod slots;
pub mod vfs;
