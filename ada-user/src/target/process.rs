//! A running process: whether it can be traced, and which files it has mapped.
//!
//! Invariant: each file's `open_path` leads to the very inode that is mapped, also if its path now names another file
//! or, in the tracer's mount namespace, none.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::maps::{self, MappedFile};
use super::{TargetError, TargetFile};
use crate::elf::{Elf, FileId};
use crate::loader::match_name;

/// `PF_KTHREAD` (include/linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// How often, and how far apart, a process is looked at that has nothing mapped.
const EXEC_TRIES: u32 = 100;
const EXEC_PAUSE: Duration = Duration::from_millis(2);

/// /proc/PID.
pub(super) fn folder(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// Whether a path means the same file to the process as to us.
pub(super) fn sees_our_files(pid: u32) -> bool {
    let same = |name: &str| {
        let (theirs, ours) = (FileId::of(&folder(pid).join(name)), FileId::of(&Path::new("/proc/self").join(name)));
        theirs.is_ok_and(|theirs| ours.is_ok_and(|ours| theirs == ours))
    };
    same("ns/mnt") && same("root")
}

/// Checks that the process can be traced, and lists the files that it has mapped executable.
pub(super) fn mapped_files(pid: u32) -> Result<Vec<TargetFile>, TargetError> {
    for _ in 0..EXEC_TRIES {
        check_status(pid)?;
        check_bits(pid)?;
        let mapped = maps::parse(&read(pid, "maps", vanished(pid))?);
        if !mapped.is_empty() {
            return Ok(mark_program(pid, mapped.into_iter().map(|mapped| target_file(pid, mapped)).collect()));
        }
        // In the middle of execve(2): the old program's memory is gone, the new one's not mapped yet.
        std::thread::sleep(EXEC_PAUSE);
    }
    Err(vanished(pid))
}

fn mark_program(pid: u32, files: Vec<TargetFile>) -> Vec<TargetFile> {
    let link = folder(pid).join("exe");
    let (program, path) = (FileId::of(&link).ok(), fs::read_link(&link).ok());
    let by_id = files.iter().position(|file| Some(file.id) == program);
    let first = by_id.or_else(|| files.iter().position(|file| Some(&file.path) == path.as_ref()));
    let mark = |(index, file)| TargetFile { is_program: Some(index) == first, ..file };
    files.into_iter().enumerate().map(mark).collect()
}

/// Whether the file's soname is `typed` or has that stem; for files whose name on disk says nothing.
pub(super) fn has_soname(file: &TargetFile, typed: &str) -> bool {
    let soname = Elf::open(&file.open_path).ok().and_then(|elf| elf.dynamic().soname);
    soname.is_some_and(|soname| match_name(&soname, typed).is_some())
}

fn vanished(pid: u32) -> TargetError {
    TargetError::Exited { pid }
}

/// Reads /proc/PID/`name`; `missing` is the error if there is none.
fn read(pid: u32, name: &str, missing: TargetError) -> Result<Vec<u8>, TargetError> {
    let path = folder(pid).join(name);
    fs::read(&path).map_err(|error| proc_error(pid, path, error, missing))
}

fn proc_error(pid: u32, path: PathBuf, source: io::Error, missing: TargetError) -> TargetError {
    let no_process = source.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error());
    match source.kind() {
        ErrorKind::NotFound => missing,
        _ if no_process => missing,
        ErrorKind::PermissionDenied => TargetError::PermissionDenied { pid },
        _ => TargetError::Proc { pid, path, source },
    }
}

/// Tells threads, zombies and kernel threads from processes.
fn check_status(pid: u32) -> Result<(), TargetError> {
    let status = read(pid, "status", TargetError::NoSuchProcess { pid })?;
    let status = String::from_utf8_lossy(&status);
    let field = |name: &str| {
        let mut lines = status.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| *key == name).map_or("", |(_, value)| value.trim())
    };
    let name = field("Name").to_owned();
    if let Ok(process) = field("Tgid").parse::<u32>()
        && process != pid
    {
        return Err(TargetError::Thread { tid: pid, pid: process, name });
    }
    match field("State").chars().next() {
        Some('Z') => Err(TargetError::Zombie { pid, name }),
        Some('X' | 'x') => Err(TargetError::Exited { pid }),
        _ if is_kernel_thread(pid)? => Err(TargetError::KernelThread { pid, name }),
        _ => Ok(()),
    }
}

/// By the ninth field of /proc/PID/stat; the second is the command in parentheses, which may hold anything.
fn is_kernel_thread(pid: u32) -> Result<bool, TargetError> {
    let stat = read(pid, "stat", vanished(pid))?;
    let stat = String::from_utf8_lossy(&stat);
    let behind_command = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let flags = behind_command.split_whitespace().nth(6).and_then(|flags| flags.parse::<u64>().ok());
    Ok(flags.unwrap_or(0) & KERNEL_THREAD != 0)
}

/// A 32-bit program is one by the class of its file, which the kernel chose the mode by.
fn check_bits(pid: u32) -> Result<(), TargetError> {
    let path = folder(pid).join("exe");
    let mut ident = [0_u8; 5];
    let read = fs::File::open(&path).and_then(|file| file.read_at(&mut ident, 0));
    match read {
        Ok(5) if &ident == b"\x7fELF\x01" => {
            let executable = fs::read_link(&path).unwrap_or(path);
            Err(TargetError::ThirtyTwoBit { pid, executable })
        }
        Ok(_) => Ok(()),
        Err(error) => Err(proc_error(pid, path, error, vanished(pid))),
    }
}

fn target_file(pid: u32, mapped: MappedFile) -> TargetFile {
    let (open_path, id) = locate(pid, &mapped);
    let path = literally_deleted(pid, &mapped, id).unwrap_or(mapped.path);
    let names = path.file_name().and_then(|name| name.to_str()).map(str::to_owned).into_iter().collect();
    TargetFile { path, open_path, names, id, is_program: false, mappings: mapped.mappings }
}

/// The path by which the tracer reaches the mapped file, and the file's id.
///
/// The plain path if it is that file, then the one through the process's root; both outlive the mapping. Only for a
/// file that was deleted or replaced the mapping's own link, which goes when the file is unmapped.
fn locate(pid: u32, mapped: &MappedFile) -> (PathBuf, FileId) {
    let link = mapped
        .mappings
        .first()
        .map(|mapping| folder(pid).join("map_files").join(format!("{:x}-{:x}", mapping.start, mapping.end)));
    let by_link = link.as_deref().and_then(|link| FileId::of(link).ok());
    let shown = FileId { device: mapped.device, inode: mapped.inode };
    // maps shows other numbers than stat(2) on btrfs and overlayfs; the link is always right, but needs privilege.
    let id = by_link.unwrap_or(shown);
    let in_root = folder(pid).join("root").join(mapped.path.strip_prefix("/").unwrap_or(&mapped.path));
    for path in [&mapped.path, &in_root] {
        if FileId::of(path).is_ok_and(|found| found == id) {
            return (path.clone(), id);
        }
    }
    match (link, by_link) {
        (Some(link), Some(id)) => (link, id),
        // Neither link nor numbers can be compared; a path that is not marked as deleted is still the mapped file's.
        _ if !mapped.deleted => {
            let id = FileId::of(&in_root).unwrap_or(shown);
            (in_root, id)
        }
        (link, _) => (link.unwrap_or(in_root), shown),
    }
}

/// A file may really be called `x (deleted)`.
fn literally_deleted(pid: u32, mapped: &MappedFile, id: FileId) -> Option<PathBuf> {
    let mut name = mapped.path.clone().into_os_string();
    name.push(" (deleted)");
    let path = PathBuf::from(name);
    let in_root = folder(pid).join("root").join(path.strip_prefix("/").unwrap_or(Path::new("")));
    (mapped.deleted && FileId::of(&in_root).is_ok_and(|found| found == id)).then_some(path)
}
