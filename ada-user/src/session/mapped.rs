//! Where processes map code, as the kernel tells at each mmap(2) of code: one that lives for a millisecond is gone before anybody
//! could look into its /proc/PID/maps.
//!
//! Invariant: what is known of a process is what it has mapped since its last execve, on top of what its parent had if it was
//! made since and has not executed anything; where the kernel may have lost a word of it, nothing is known. Nothing here is
//! asked for on the way of an event.

use std::{
    collections::HashMap,
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use perf_event::{Builder, Clock, SampleFlag, Sampler, data::Record, events::Software};

use crate::elf::{FileId, Mapping};

/// For each processor, in bytes: some thousand mappings between two looks.
const RING: usize = 256 << 10;
/// More than a record takes, which has one path at most: a ring that had so little room left may have lost some.
const LARGEST: usize = 8 << 10;
/// What comes before the bytes of a record: `struct perf_event_header`.
const HEADER: usize = 8;
/// `PERF_RECORD_MISC_COMM_EXEC`: the name changed because of an execve.
const BY_EXEC: u16 = 1 << 13;
/// For how long something is kept of processes that nobody knows yet, in nanoseconds: their beginning may be told later.
const STRANGER_NS: u64 = 10_000_000_000;

/// A file that a process has mapped code of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MappedCode {
    /// As the process saw it.
    path: PathBuf,
    /// The device may be another one than stat(2) gives, on some file systems.
    id: FileId,
    pub(super) mapping: Mapping,
}

impl MappedCode {
    /// Whether it is the file of this path and identity.
    pub(super) fn is(&self, path: &Path, id: FileId) -> bool {
        self.id == id || self.id.inode == id.inode && self.path == path
    }
}

/// What one process has mapped.
#[derive(Debug, Clone, Default)]
pub(super) struct Mapped {
    /// When it was made or began its program, `CLOCK_BOOTTIME` in nanoseconds; 0 if that was not seen.
    pub(super) since_ns: u64,
    /// In the order in which it was mapped.
    pub(super) code: Vec<MappedCode>,
    last_ns: u64,
}

/// What all processes have mapped.
#[derive(Debug, Default)]
pub(super) struct Table {
    processes: HashMap<u32, Mapped>,
}

/// Something that a process did.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Deed {
    Mapped {
        pid: u32,
        code: MappedCode,
    },
    Executed {
        pid: u32,
    },
    Forked {
        pid: u32,
        parent: u32,
    },
    /// Somebody did something that nobody was told.
    Lost,
}

impl Table {
    /// What is known of a process.
    pub(super) fn of(&self, pid: u32) -> Option<&Mapped> {
        self.processes.get(&pid)
    }

    /// One process that has mapped the code of one file.
    #[cfg(test)]
    pub(super) fn of_one(pid: u32, path: PathBuf, id: FileId, mapping: Mapping) -> Self {
        let mut table = Self::default();
        table.note(1, Deed::Mapped { pid, code: MappedCode { path, id, mapping } });
        table
    }

    /// Forgets processes of which nothing was heard for a while, and that are none of ours.
    fn forget_strangers(&mut self, now_ns: u64, is_ours: impl Fn(u32) -> bool) {
        self.processes.retain(|pid, mapped| mapped.last_ns.saturating_add(STRANGER_NS) > now_ns || is_ours(*pid));
    }

    fn note(&mut self, time_ns: u64, deed: Deed) {
        match deed {
            Deed::Mapped { pid, code } => {
                let mapped = self.processes.entry(pid).or_default();
                mapped.code.push(code);
                mapped.last_ns = time_ns;
            }
            Deed::Executed { pid } => {
                let fresh = Mapped { since_ns: time_ns, last_ns: time_ns, code: Vec::new() };
                self.processes.insert(pid, fresh);
            }
            Deed::Forked { pid, parent } => {
                let code = self.processes.get(&parent).map_or(Vec::new(), |parent| parent.code.clone());
                self.processes.insert(pid, Mapped { since_ns: time_ns, last_ns: time_ns, code });
            }
            // Whoever executed something unseen has not what is known of it any more.
            Deed::Lost => self.processes.clear(),
        }
    }
}

/// The kernel's word on all processes of this machine, from its making on.
pub(super) struct MappingLog {
    rings: Vec<Sampler>,
    table: Table,
}

impl MappingLog {
    /// Begins to listen. `None` without the right to, or in a kernel without perf events: then there is /proc alone.
    pub(super) fn open() -> Option<Self> {
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
        let rings = processors(online.trim()).map(ring).collect::<std::io::Result<_>>().ok()?;
        Some(Self { rings, table: Table::default() })
    }

    /// Takes note of what happened since the last call, and keeps it for processes that are ours.
    pub(super) fn catch_up(&mut self, now_ns: u64, is_ours: impl Fn(u32) -> bool) -> &Table {
        let mut deeds = Vec::new();
        for ring in &mut self.rings {
            let mut filled = 0;
            while let Some(record) = ring.next_record() {
                // With nothing else in the trailer, the time is the last word.
                let bytes = record.to_contiguous();
                filled += HEADER + bytes.len();
                let time_ns = bytes.last_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
                let by_exec = record.misc() & BY_EXEC != 0;
                let deed = record.parse_record().ok().and_then(|record| deed(record, by_exec));
                deeds.extend(deed.map(|deed| (time_ns, deed)));
            }
            // The kernel tells of a loss with the next record only.
            if filled + LARGEST > RING {
                deeds.push((u64::MAX, Deed::Lost));
            }
        }
        // A process goes from processor to processor.
        deeds.sort_by_key(|(time_ns, _)| *time_ns);
        deeds.into_iter().for_each(|(time_ns, deed)| self.table.note(time_ns, deed));
        self.table.forget_strangers(now_ns, is_ours);
        &self.table
    }
}

impl std::fmt::Debug for MappingLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MappingLog").field("rings", &self.rings.len()).finish_non_exhaustive()
    }
}

/// Of one processor, not of one process: then switching between tasks costs nothing, and children need no event of their own.
fn ring(cpu: usize) -> std::io::Result<Sampler> {
    let mut builder = Builder::new(Software::DUMMY);
    builder.any_pid().one_cpu(cpu).enabled(true).mmap(true).mmap2(true).comm(true).comm_exec(true).task(true);
    builder.sample(SampleFlag::TIME).sample_id_all(true).clockid(Clock::BOOTTIME);
    builder.build()?.sampled(RING)
}

/// `0-3,6`.
fn processors(online: &str) -> impl Iterator<Item = usize> {
    online.split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let bounds = first.parse().ok().zip(last.parse::<usize>().ok());
        bounds.into_iter().flat_map(|(first, last)| first..=last)
    })
}

fn deed(record: Record<'_>, by_exec: bool) -> Option<Deed> {
    match record {
        Record::Mmap2(mmap) if mmap.filename.first() == Some(&b'/') => {
            let device = rustix::fs::makedev(mmap.maj()?, mmap.min()?);
            let (start, offset) = (mmap.addr, mmap.pgoff);
            let mapping = Mapping { start, end: start.saturating_add(mmap.len), offset, executable: true };
            let id = FileId { device, inode: mmap.ino().filter(|inode| *inode != 0)? };
            let path = PathBuf::from(OsString::from_vec(mmap.filename.into_owned()));
            Some(Deed::Mapped { pid: mmap.pid, code: MappedCode { path, id, mapping } })
        }
        Record::Comm(comm) if by_exec => Some(Deed::Executed { pid: comm.pid }),
        // A new thread of the same process has everything already.
        Record::Fork(fork) if fork.pid != fork.ppid => Some(Deed::Forked { pid: fork.pid, parent: fork.ppid }),
        Record::Lost(_) => Some(Deed::Lost),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(inode: u64) -> MappedCode {
        let mapping = Mapping { start: inode << 12, end: (inode + 1) << 12, offset: 0, executable: true };
        MappedCode { path: "/a".into(), id: FileId { device: 1, inode }, mapping }
    }

    fn mapped(pid: u32, inode: u64) -> Deed {
        Deed::Mapped { pid, code: code(inode) }
    }

    #[test]
    fn a_child_has_what_its_parent_had_until_it_executes() {
        let mut table = Table::default();
        let deeds = [
            mapped(10, 1),
            Deed::Forked { pid: 11, parent: 10 },
            mapped(10, 2),
            mapped(11, 3),
            Deed::Forked { pid: 12, parent: 11 },
            Deed::Executed { pid: 11 },
            mapped(11, 4),
        ];
        (1..).zip(deeds).for_each(|(time_ns, deed)| table.note(time_ns, deed));
        let of = |pid| (table.of(pid).unwrap().since_ns, table.of(pid).unwrap().code.clone());
        assert_eq!(of(10), (0, vec![code(1), code(2)]));
        assert_eq!(of(11), (6, vec![code(4)]));
        assert_eq!(of(12), (5, vec![code(1), code(3)]));
        table.forget_strangers(STRANGER_NS + 4, |pid| pid == 10);
        assert!(table.of(10).is_some() && table.of(11).is_some() && table.of(12).is_some());
        table.forget_strangers(2 * STRANGER_NS, |pid| pid == 10);
        assert!(table.of(10).is_some() && table.of(11).is_none());
    }

    #[test]
    fn after_a_loss_nothing_is_known_but_what_follows() {
        let mut table = Table::default();
        let fork = |pid| Deed::Forked { pid, parent: 10 };
        // What was lost may be that 11 has executed something.
        let deeds = [mapped(10, 1), fork(11), Deed::Lost, mapped(11, 2), fork(12)];
        (1..).zip(deeds).for_each(|(time_ns, deed)| table.note(time_ns, deed));
        assert!(table.of(10).is_none());
        assert_eq!(table.of(11).unwrap().code, [code(2)]);
        assert_eq!(table.of(12).unwrap().code, []);
    }

    #[test]
    fn the_kernels_word_of_a_loss() {
        let lost = perf_event::data::Lost { id: 1, lost: 3 };
        assert_eq!(deed(Record::Lost(lost), false), Some(Deed::Lost));
    }

    #[test]
    fn the_devices_number_may_be_another_one() {
        let is = |path: &str, device, inode| code(7).is(Path::new(path), FileId { device, inode });
        assert!(is("/a", 1, 7) && is("/b", 1, 7));
        assert!(is("/a", 2, 7) && !is("/b", 2, 7));
        assert!(!is("/a", 1, 8));
    }

    #[test]
    fn lists_of_processors() {
        assert_eq!(processors("0-2,5").collect::<Vec<_>>(), [0, 1, 2, 5]);
        assert_eq!(processors("0").collect::<Vec<_>>(), [0]);
        assert_eq!(processors("").count(), 0);
    }

    /// What the kernel tells of a real child, against what /proc says while it lives.
    #[test]
    fn the_kernel_tells_what_proc_shows() {
        let Some(mut log) = MappingLog::open() else { return println!("skipped: needs the right to perf events") };
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let target = loop {
            let target = crate::target::Target::from_pid(child.id()).unwrap();
            if target.files().iter().any(|file| file.path.to_string_lossy().contains("libc.so")) {
                break target;
            }
        };
        let table = log.catch_up(crate::clock::boottime_ns(), |_| true);
        let told = table.of(child.id()).unwrap().code.clone();
        child.kill().unwrap();
        child.wait().unwrap();
        for file in target.files() {
            let code = file.mappings.iter().filter(|mapping| mapping.executable);
            for mapping in code {
                let same = |code: &&MappedCode| code.mapping.start == mapping.start && code.path == file.path;
                assert_eq!(told.iter().filter(same).count(), 1, "{} at {:#x}", file.path.display(), mapping.start);
            }
        }
    }
}
