//! Where a session that was put together comes from.
//!
//! Invariant: with it every number of the merged session can be led back to the session that it came from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One of the sessions that a merged one was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MergedFrom {
    /// Its id.
    pub session: String,
    /// The name of its machine.
    pub host: String,
    /// Its processor, such as `x86_64`.
    pub arch: String,
    /// When it started (RFC 3339).
    pub started_at: String,
    /// What was added to its times, in nanoseconds, to make them those of the first session's clock.
    pub offset_ns: i64,
    /// By how much the offset may be wrong, as far as its anchors tell: how far they disagree.
    pub uncertainty_ns: u64,
    /// Its events.
    pub events: u64,
    /// Its folders.
    pub threads: u64,
    /// The ordinal that its first folder got; the others follow in their order.
    pub first_thread: u32,
    /// Process ids that were taken by processes of other sessions: its own, and the one given instead, which no process of a
    /// machine can have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pids: BTreeMap<u32, u32>,
    /// What this session was itself made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub merged_from: Vec<Self>,
}
