//! The audit trail: every attempt to change what the box runs or trusts, written down before and after.
//!
//! Lines of JSON, each signed by the box's own key and holding the digest of the line before it. Two files of bounded
//! size are kept; where the older one is dropped, the chain begins later and says so by its index.

mod file;

use serde::{Deserialize, Serialize};

pub use file::{Audit, AuditError, Verified, verify};

/// What was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A model is flashed.
    Flash,
    /// The previous model is put back.
    Rollback,
    /// A trial is ended well.
    Confirm,
    /// A trial is ended badly.
    Revert,
    /// A model is taken out.
    Remove,
    /// The next trust document.
    Trust,
    /// A subject is erased; the trail does not say which one.
    Erase,
    /// Finished segments of the journal are copied elsewhere and freed.
    Offload,
    /// An operator believes the clock.
    Clock,
    /// A backup is made.
    Backup,
    /// A backup is put back.
    Restore,
    /// Somebody is enrolled, renewed or revoked.
    Access,
    /// The daemon starts, and serves something else than the record names, or ends a trial.
    Start,
    /// A line that a power cut left half written is cut off.
    Recovery,
}

/// How far an attempt has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It begins.
    Begun,
    /// It succeeded.
    Done,
    /// It was refused or failed; what was before stays.
    Refused,
    /// The process ended in the middle.
    Cut,
    /// Something happened by itself.
    Noted,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Counted from 0, without gaps.
    pub index: u64,
    /// By the box's clock: milliseconds since 1970-01-01 UTC. It may be wrong; the order is the index's.
    pub unix_ms: u64,
    /// What was attempted.
    pub what: What,
    /// How far it has come.
    pub stage: Stage,
    /// The file or model that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Digest of the bundle, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why, or what is worth knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who ordered it over the network; whoever orders on the box itself has no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// SHA-256 of the line before, in hex; zeros before the first.
    pub previous: String,
}

/// What an entry says beside its place in the chain.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The file or model.
    pub subject: Option<String>,
    /// Digest of the bundle.
    pub digest: Option<String>,
    /// Why.
    pub reason: Option<String>,
}
