//! Finalising, in place, a session whose recorder did not.
//!
//! Invariant: what a reader would have shown before is what the files hold after, and besides it only detail that was
//! whole but whose link had not been written; and a second run changes nothing.

use std::io;
use std::path::{Path, PathBuf};

use super::finalise::{Found, RecoveredThread};
use super::{SessionError, delete_leftovers, lock, thread_folder, thread_ids};
use crate::manifest::{Manifest, ManifestError, SessionStatus, Thread};

/// What [`recover`] found and did.
#[derive(Debug)]
pub struct RecoverReport {
    /// The session.
    pub session: PathBuf,
    /// Whether there was nothing to do; nothing was touched then.
    pub already_complete: bool,
    /// What became of each thread, in the order of their ordinals.
    pub threads: Vec<RecoveredThread>,
}

/// Finalises every file of the session in `dir` that its recorder did not, and brings the manifest up to date.
///
/// A session that is complete stays as it is, and so does a file that cannot be read.
///
/// # Errors
/// [`SessionError::Locked`] if the session is still being recorded; [`SessionError`] if the manifest cannot be read
/// (the threads have been finalised even so) or the system refuses to change a file. Running it again goes on from
/// there.
///
/// # Examples
/// ```
/// # use ada_format::layout::{Arch, ClockType, EventKind, Os};
/// # use ada_format::write::{ThreadMeta, ThreadWriter};
/// use ada_format::manifest::Manifest;
/// use ada_format::session;
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # let meta = ThreadMeta { thread_id: 1, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };
/// # Manifest::default().write_atomic(dir)?;
/// # let mut writer = ThreadWriter::create(&session::thread_folder(dir, 0), &meta)?;
/// # writer.append(10, 7, EventKind::Call, 0)?;
/// # writer.flush()?;
/// # drop(writer); // never finished: the recorder was killed
/// let report = session::recover(dir)?;
/// assert_eq!(report.threads[0].event_count, 1);
/// assert!(session::recover(dir)?.already_complete);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn recover(dir: &Path) -> Result<RecoverReport, SessionError> {
    let mut report = RecoverReport { session: dir.to_owned(), already_complete: true, threads: Vec::new() };
    let is_final = |found: &[Found]| found.iter().all(Found::is_final);
    let found = open_all(dir)?;
    if is_final(&found) && Manifest::read(dir).is_ok_and(|manifest| is_ended(&manifest)) {
        report.threads = found.into_iter().map(Found::report).collect();
        return Ok(report);
    }
    drop(found);

    let _lock = lock(dir)?;
    report.already_complete = false;
    delete_leftovers(dir).map_err(SessionError::io("delete what is left of threads in", dir))?;
    for found in open_all(dir)? {
        report.threads.push(found.finalise(dir)?);
    }
    let mut manifest = read_or_begin(dir)?;
    if manifest.complete_from_ns.is_some() {
        manifest.threads.retain(|thread| thread_folder(dir, thread.id).exists());
    }
    update(&mut manifest, &report.threads);
    manifest.write_atomic(dir)?;
    Ok(report)
}

fn open_all(dir: &Path) -> Result<Vec<Found>, SessionError> {
    let ids = thread_ids(dir).map_err(SessionError::io("read", dir))?;
    Ok(ids.into_iter().map(|id| Found::open(dir, id)).collect())
}

fn is_ended(manifest: &Manifest) -> bool {
    manifest.session.status != SessionStatus::Recording
}

/// The manifest, or the beginnings of one where there is none.
fn read_or_begin(dir: &Path) -> Result<Manifest, ManifestError> {
    match Manifest::read(dir) {
        Err(ManifestError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Manifest::default()),
        manifest => manifest,
    }
}

/// Makes the manifest say what the files hold.
fn update(manifest: &mut Manifest, threads: &[RecoveredThread]) {
    let only_pid = match manifest.process.as_slice() {
        [process] => process.pid,
        _ => 0,
    };
    for found in threads.iter().filter(|thread| thread.error.is_none() || thread.tid != 0) {
        let at = manifest.threads.iter().position(|thread| thread.id == found.id).unwrap_or_else(|| {
            manifest.threads.push(begin_thread(manifest, found, only_pid));
            manifest.threads.len() - 1
        });
        if let Some(thread) = manifest.threads.get_mut(at) {
            describe(thread, found);
        }
    }
    let with_events = || threads.iter().filter_map(|thread| thread.time_range);
    manifest.time_start_ns = with_events().map(|range| range.0).min().unwrap_or_default();
    manifest.time_end_ns = with_events().map(|range| range.1).max().unwrap_or_default();
    manifest.event_count = manifest.threads.iter().map(|thread| thread.event_count).sum();
    manifest.session.status = SessionStatus::Recovered;
    manifest.session.complete = false;
}

/// What there is to say of a folder that the manifest does not have yet: a new thread's, or one that another goes on in.
fn begin_thread(manifest: &Manifest, found: &RecoveredThread, only_pid: u32) -> Thread {
    let known = manifest.threads.iter().filter(|thread| thread.tid == found.tid).max_by_key(|thread| thread.id);
    let (pid, name) = known.map_or((only_pid, String::new()), |thread| (thread.pid, thread.name.clone()));
    Thread { id: found.id, pid, tid: found.tid, name, ..Thread::default() }
}

fn describe(thread: &mut Thread, found: &RecoveredThread) {
    (thread.time_start_ns, thread.time_end_ns) = found.time_range.unwrap_or_default();
    thread.event_count = found.event_count;
    thread.detail_count = found.detail_count;
    thread.has_detail = found.has_detail;
}
