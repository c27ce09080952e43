//! How terminals reach the pipeline. Every transport parses into the same request, asks the same pipeline and
//! writes the same outcome; none of them knows a model or the journal.

pub mod broker;
mod fields;
pub mod http;
pub mod lis;
pub mod mllp;
pub mod mqtt;
mod observed;
pub mod serial;
pub mod tls;

/// Largest packet or body that is read before it is refused as too large, in bytes.
pub(crate) const MAX_INPUT_BYTES: usize = 1 << 20;
