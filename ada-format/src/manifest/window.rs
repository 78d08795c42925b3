//! The parts of a manifest that say around which moments detail was kept, and why.
//!
//! Invariant: a trigger of any shape is read, and what this version does not know of it is written back.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A time around triggers, in which detail was kept. Windows do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// Its start.
    pub start_ns: u64,
    /// Its end.
    pub end_ns: u64,
    /// How long before the first trigger it really starts, in nanoseconds.
    pub pre_roll_ns: u64,
    /// Whether it holds all the detail that was asked for; not if the buffer did not reach back as far.
    pub complete: bool,
    /// Detail events in it, of all threads.
    pub details: u64,
    /// What triggered it, in the order of time.
    pub triggers: Vec<Trigger>,
    /// Keys this version does not know; written back as they were.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Why detail was kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Value")]
pub struct Trigger {
    /// `symbol`, `slow`, `signal`, `exit`, `every` or `mark`.
    pub kind: String,
    /// When it fired.
    pub at_ns: u64,
    /// As the user wrote it.
    pub what: String,
    /// The ordinal of the thread that it fired in, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<u32>,
    /// Position of the index event that it fired at, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_seq: Option<u64>,
    /// Keys this version does not know; written back as they were.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl From<Value> for Trigger {
    /// Of an object the keys that are as they should be, and all that are unknown; anything else is `what` it says.
    fn from(value: Value) -> Self {
        let mut extra = match value {
            Value::Object(map) => map,
            Value::String(what) => return Self { what, ..Self::default() },
            other => return Self { what: other.to_string(), ..Self::default() },
        };
        let mut take = |key| extra.remove(key).unwrap_or_default();
        let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            kind: text(take("kind")),
            at_ns: take("at_ns").as_u64().unwrap_or_default(),
            what: text(take("what")),
            thread: take("thread").as_u64().and_then(|thread| thread.try_into().ok()),
            index_seq: take("index_seq").as_u64(),
            extra,
        }
    }
}
