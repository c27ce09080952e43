//! Who may use the box over a network.

use serde::{Deserialize, Serialize};

/// Who may use the box over a network.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Whether anybody on this machine may ask and look without credentials, to try the box out. Every listener must
    /// then be on loopback.
    pub anonymous: bool,
}
