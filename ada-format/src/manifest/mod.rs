//! manifest.json: what was traced, on what, and what was lost.
//!
//! Invariant: at every moment the file on disk is one whole manifest; with it alone a trace can be understood on
//! another machine after the process is gone.

mod file;
mod process;
mod signature;
#[cfg(test)]
mod tests;
mod window;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use self::file::read_json;
pub use self::file::{FUNCTIONS_FILE, INLINE_FUNCTIONS, MANIFEST_FILE, ManifestError};
pub use self::process::{Function, Module, Probe, Process, Returns, SkippedSymbol};
pub use self::signature::{
    Condition, Field, Form, Location, MAX_ENUMERATORS, Named, Parameter, Part, Signature, Source, Value,
};
pub use self::window::{Trigger, Window};

/// The manifest's version of the format.
pub const FORMAT_VERSION: &str = "2.1";

/// A session's manifest. Times are in nanoseconds of [`Clock`].
///
/// # Examples
/// ```
/// use ada_format::manifest::{Manifest, Thread};
///
/// # let dir = tempfile::tempdir()?;
/// let mut manifest = Manifest::default();
/// manifest.threads.push(Thread { id: 0, pid: 12, tid: 13, name: "worker".into(), ..Thread::default() });
/// manifest.write_atomic(dir.path())?;
/// assert_eq!(Manifest::read(dir.path())?, manifest);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: String,
    /// What recorded.
    pub tool: Tool,
    /// Operating system of the traced processes, such as `linux`.
    pub os: String,
    /// Processor of the traced processes, such as `x86_64`.
    pub arch: String,
    /// The machine.
    pub host: Host,
    /// Where timestamps come from.
    pub clock: Clock,
    /// The recording itself.
    pub session: Session,
    /// First timestamp of all threads.
    pub time_start_ns: u64,
    /// Last timestamp of all threads.
    pub time_end_ns: u64,
    /// From when on the session holds everything, if what lay before was deleted to keep it small; none if it holds
    /// everything from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete_from_ns: Option<u64>,
    /// Events of all threads.
    pub event_count: u64,
    /// What was traced.
    pub process: Vec<Process>,
    /// What was asked for, and what came of it.
    pub probes: Vec<Probe>,
    /// Files that traced functions are in.
    pub modules: Vec<Module>,
    /// Traced functions. On disk they are in [`functions_file`](Self::functions_file) if there are more than
    /// [`INLINE_FUNCTIONS`].
    #[serde(skip_serializing_if = "file::too_many")]
    pub functions: Vec<Function>,
    /// Set by reading: the file beside the manifest that the functions came from. Writing decides for itself.
    #[serde(skip_serializing)]
    pub functions_file: Option<String>,
    /// One for each folder.
    pub threads: Vec<Thread>,
    /// What is missing.
    pub lost: Lost,
    /// Functions that were recorded only until they were called too often.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub muted: Vec<Muted>,
    /// Times around triggers, if detail was kept only there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// Keys this version does not know; written back as they were.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            format_version: FORMAT_VERSION.to_owned(),
            tool: Tool::default(),
            os: "linux".to_owned(),
            arch: crate::layout::Arch::host().name().to_owned(),
            host: Host::default(),
            clock: Clock::default(),
            session: Session::default(),
            time_start_ns: 0,
            time_end_ns: 0,
            complete_from_ns: None,
            event_count: 0,
            process: Vec::new(),
            probes: Vec::new(),
            modules: Vec::new(),
            functions: Vec::new(),
            functions_file: None,
            threads: Vec::new(),
            lost: Lost::default(),
            muted: Vec::new(),
            windows: Vec::new(),
            extra: serde_json::Map::new(),
        }
    }
}

/// What recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tool {
    /// Such as `ada-trace`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// The kernel's release.
    pub kernel: String,
    /// The machine's name.
    pub hostname: String,
    /// Processors online.
    pub cpus: u32,
}

/// Where timestamps come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    /// Such as `boottime`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What o'clock it was: at least one pair at each end of the recording.
    pub anchors: Vec<Anchor>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { kind: "boottime".to_owned(), anchors: Vec::new() }
    }
}

/// Both clocks at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Anchor {
    /// `CLOCK_BOOTTIME`: since the machine started.
    pub boottime_ns: u64,
    /// `CLOCK_REALTIME`: since 1970, UTC.
    pub realtime_ns: u64,
}

/// The recording itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// Names the session.
    pub id: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339; none while it is recorded or if the recorder was killed.
    pub ended_at: Option<String>,
    /// How it stands.
    pub status: SessionStatus,
    /// Whether nothing was lost.
    pub complete: bool,
}

/// How a session stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionStatus {
    /// It is being recorded, or its recorder was killed.
    #[default]
    Recording,
    /// Its recorder finished it.
    Complete,
    /// Its recorder did not finish it; [`recover`](crate::session::recover) did.
    Recovered,
}

/// One folder: a thread, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thread {
    /// The ordinal: `thread_<id>` is the folder.
    pub id: u32,
    /// The process it belongs to.
    pub pid: u32,
    /// The operating system's thread id.
    pub tid: u32,
    /// The thread's name.
    pub name: String,
    /// Whether there is a detail file.
    pub has_detail: bool,
    /// Index events.
    pub event_count: u64,
    /// Detail events.
    pub detail_count: u64,
    /// First timestamp; 0 if there are no events.
    pub time_start_ns: u64,
    /// Last timestamp; 0 if there are no events.
    pub time_end_ns: u64,
    /// Events of this thread that were lost.
    pub lost: u64,
    /// The ordinal that this one goes on from, if the thread has several. That folder may have been deleted; the first
    /// events of this one may then be deeper than 0, and returns among them whose calls were deleted.
    pub continues: Option<u32>,
    /// Calls that ended without a return event: unwound, jumped over or killed.
    pub missed_returns: u64,
}

/// What is missing from a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lost {
    /// Events lost.
    pub total: u64,
    /// By cause, such as `ring_full`.
    pub by_reason: BTreeMap<String, u64>,
    /// Where they are missing.
    pub gaps: Vec<Gap>,
}

/// A place in a thread where events are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gap {
    /// The thread's ordinal.
    pub thread: u32,
    /// The index position before the gap; none if it lies before the first event.
    pub after_index_seq: Option<u64>,
    /// Events missing.
    pub count: u64,
    /// Time of the first one missing.
    pub time_start_ns: u64,
    /// Time of the last one missing.
    pub time_end_ns: u64,
}

/// A function that was recorded only until it was called too often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Muted {
    /// The function.
    pub function_id: u64,
    /// From when on no calls of it are recorded.
    pub at_ns: u64,
    /// Its calls per second by then.
    pub calls_per_s: u64,
}
