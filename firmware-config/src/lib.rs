//! What is flashed to or spoken with a device.
//!
//! [`wire`], the frames of a serial line, [`terminal`], which asks a box over one, and [`words`] are `no_std` without
//! `alloc`, so that a microcontroller can use them. The feature `std` adds the rest: messages that own what they
//! hold, device profiles, the bundle manifest, the trust document and the slot record.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod terminal;
pub mod wire;
pub mod words;

#[cfg(feature = "std")]
pub mod line;
#[cfg(feature = "std")]
pub mod manifest;
#[cfg(feature = "std")]
pub mod message;
#[cfg(feature = "std")]
pub mod pack;
#[cfg(feature = "std")]
pub mod profile;
#[cfg(feature = "std")]
pub mod slot;
#[cfg(feature = "std")]
pub mod trust;
