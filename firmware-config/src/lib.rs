//! What is flashed to or spoken with a device.
//!
//! The core (`wire`) is `no_std` without `alloc`, so that a microcontroller terminal can use it; the
//! feature `std` adds messages, device profiles, the bundle manifest and the slot record.
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
