//! What is flashed to or spoken with a device.
//!
//! `wire`, the frames of a serial line, is `no_std` without `alloc`, so that a microcontroller terminal can use it.
//! The feature `std` adds the rest: the messages inside the frames, device profiles, the bundle manifest and the slot
//! record.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod wire;

#[cfg(feature = "std")]
pub mod manifest;
#[cfg(feature = "std")]
pub mod message;
#[cfg(feature = "std")]
pub mod profile;
#[cfg(feature = "std")]
pub mod slot;
