//! The processes of a recording as they come and go, for its manifest.
//!
//! Invariant: an entry is one process; an id that is used again gets another entry.

use std::{
    cell::OnceCell,
    collections::{BTreeSet, HashMap, HashSet},
    path::Path,
};

use ada_format::manifest::Process;

use super::{
    ProcessEnd,
    mapped::{Mapped, Table},
};
use crate::{
    collect::{Life, ThreadEntry},
    elf::{Elf, FileId},
    plan::{Module, ModuleId},
    process::ProcessInfo,
    target::Target,
};

/// How often a followed process is looked at for modules that it may never load. Those recorded from the start are
/// looked at for ever.
const LOOKS: u32 = 5;

/// One process.
#[derive(Debug, Default)]
struct Entry {
    info: ProcessInfo,
    end: Option<ProcessEnd>,
    /// Modules of which is known where it has them.
    located: Vec<ModuleId>,
    looks: u32,
    /// How much of what the kernel told of its mappings was looked at: since when, how many, and for how many modules.
    seen: (u64, usize, usize),
    /// It has ended, and everything that was told of it was looked at.
    settled: bool,
}

/// All processes that were or are recorded.
#[derive(Debug)]
pub(super) struct Processes {
    entries: Vec<Entry>,
    /// Those that were recorded from the start, at the front.
    first: usize,
    /// By id, those of whose end the kernel did not tell yet.
    live: HashMap<u32, usize>,
    /// The ordinal of the first thread that nobody has looked at.
    next_thread: u32,
}

impl Processes {
    /// Those that are recorded from the start.
    pub(super) fn begin(infos: impl Iterator<Item = ProcessInfo>) -> Self {
        let mut processes = Self { entries: Vec::new(), first: 0, live: HashMap::new(), next_thread: 0 };
        processes.also(infos);
        processes
    }

    /// More that are recorded from the start; before anything is noted.
    pub(super) fn also(&mut self, infos: impl Iterator<Item = ProcessInfo>) {
        for info in infos {
            self.add(Entry { info, ..Entry::default() });
        }
        self.first = self.entries.len();
    }

    /// Notes the end of one that was recorded from the start, as somebody saw it from outside; what the kernel tells of it
    /// may come later.
    pub(super) fn ended(&mut self, pid: u32, end: ProcessEnd) {
        let mut first = self.entries.iter_mut().take(self.first);
        if let Some(entry) = first.find(|entry| entry.info.pid == pid) {
            entry.end.get_or_insert(end);
        }
    }

    /// Notes what the kernel told.
    pub(super) fn note(&mut self, life: Life, modules: &mut [Module]) {
        match life {
            Life::Forked { pid, parent, time_ns } => self.forked(pid, parent, time_ns, modules),
            Life::Executed { now, name, time_ns } => self.executed(now, name, time_ns),
            Life::Ended { pid, status, time_ns } => {
                let ended = self.live.remove(&pid).and_then(|index| self.entries.get_mut(index));
                if let Some(entry) = ended {
                    entry.end = Some(ProcessEnd::of_status(time_ns, status));
                }
            }
        }
    }

    /// Makes entries of processes of which nothing is known but events: what told of their beginning was lost.
    pub(super) fn note_threads<'a>(&mut self, threads: impl Iterator<Item = (u32, &'a ThreadEntry)>) {
        let next = self.next_thread;
        for (id, thread) in threads.filter(|(id, _)| *id >= next) {
            self.next_thread = id.saturating_add(1);
            if !self.entries.iter().any(|entry| entry.info.pid == thread.pid) {
                let start_ns = thread.time_start_ns;
                self.add(Entry { info: ProcessInfo { start_ns, ..ProcessInfo::read(thread.pid) }, ..Entry::default() });
            }
        }
    }

    /// Takes out the processes that ended before `from_ns` and that none of the threads that are kept belongs to (`kept`: the
    /// processes of those), with where they had `modules`. Those that were recorded from the start stay.
    pub(super) fn forget_before(&mut self, from_ns: u64, kept: &BTreeSet<u32>, modules: &mut [Module]) {
        let (first, mut position) = (self.first, 0);
        let before = self.entries.len();
        self.entries.retain(|entry| {
            position += 1;
            let gone = entry.end.is_some_and(|end| end.time_ns < from_ns);
            position <= first || !gone || kept.contains(&entry.info.pid)
        });
        if self.entries.len() == before {
            return;
        }
        let is_live = |(index, entry): (usize, &Entry)| {
            self.live.contains_key(&entry.info.pid).then_some((entry.info.pid, index))
        };
        // Of those that share an id, the last one.
        self.live = self.entries.iter().enumerate().filter_map(is_live).collect();
        let known: BTreeSet<u32> = self.entries.iter().map(|entry| entry.info.pid).collect();
        for module in modules {
            module.bases.retain(|(pid, _)| known.contains(pid));
        }
    }

    /// Looks where modules are loaded by now, in processes where that is not known. True if something was found.
    pub(super) fn locate(&mut self, modules: &mut [Module]) -> bool {
        let mut found = false;
        for index in self.live.values() {
            let Some(entry) = self.entries.get_mut(*index) else { continue };
            let tired = *index >= self.first && entry.looks >= LOOKS;
            if !tired && entry.end.is_none() && entry.located.len() < modules.len() {
                entry.looks += 1;
                found |= entry.locate(modules);
            }
        }
        found
    }

    /// The same by what the kernel told: of those that have ended, too.
    pub(super) fn locate_told(&mut self, modules: &mut [Module], told: &Table) -> bool {
        let (mut found, files) = (false, modules.iter().map(|_| File::default()).collect::<Vec<_>>());
        for entry in self.entries.iter_mut().filter(|entry| !entry.settled) {
            let end_ns = entry.end.map_or(u64::MAX, |end| end.time_ns);
            // Another process may have its id by now.
            if let Some(mapped) = told.of(entry.info.pid).filter(|mapped| mapped.since_ns <= end_ns) {
                found |= entry.locate_told(modules, &files, mapped);
            }
            entry.settled = entry.end.is_some();
        }
        found
    }

    /// The ids of those that are or were recorded and have not been looked at for the last time.
    pub(super) fn open(&self) -> HashSet<u32> {
        self.entries.iter().filter(|entry| !entry.settled).map(|entry| entry.info.pid).collect()
    }

    /// What the manifest says of them.
    pub(super) fn manifest(&self) -> Vec<Process> {
        self.entries.iter().map(Entry::manifest).collect()
    }

    fn add(&mut self, entry: Entry) {
        self.live.insert(entry.info.pid, self.entries.len());
        self.entries.push(entry);
    }

    /// A new process is a copy of its parent: the same program, the same arguments, everything at the same place.
    fn forked(&mut self, pid: u32, parent: u32, time_ns: u64, modules: &mut [Module]) {
        let (mut info, mut located) = (ProcessInfo::default(), Vec::new());
        if let Some(of) = self.live.get(&parent).and_then(|index| self.entries.get(*index)) {
            (info, located) = (of.info.clone(), of.located.clone());
        }
        for module in modules.iter_mut().filter(|module| located.contains(&module.id)) {
            let base = module.bases.iter().rev().find(|(owner, _)| *owner == parent).map(|(_, base)| *base);
            module.bases.extend(base.map(|base| (pid, base)));
        }
        let info = ProcessInfo { pid, ppid: parent, start_ns: time_ns, ..info };
        self.add(Entry { info, located, ..Entry::default() });
    }

    /// Another program in the same process: one that was gone before anybody could look has the name that it had.
    fn executed(&mut self, now: ProcessInfo, name: String, time_ns: u64) {
        if !self.live.contains_key(&now.pid) {
            // What told of its beginning was lost, or it is known from events alone.
            self.add(Entry { info: ProcessInfo { start_ns: time_ns, ..now.clone() }, ..Entry::default() });
        }
        let Some(index) = self.live.get(&now.pid).copied() else { return };
        let Some(entry) = self.entries.get_mut(index) else { return };
        // An id that is used again may belong to a stranger; and of a command that was launched, everything was known.
        let gone = now.executable.is_empty();
        if entry.end.is_some_and(|end| end.time_ns < time_ns) || gone && index < self.first {
            return;
        }
        let executable = if gone { name } else { now.executable };
        entry.info = ProcessInfo { executable, args: now.args, ..entry.info.clone() };
        entry.located.clear();
        entry.looks = 0;
        entry.seen = (0, 0, 0);
    }
}

impl Entry {
    fn locate(&mut self, modules: &mut [Module]) -> bool {
        let Ok(target) = Target::from_pid(self.info.pid) else { return false };
        let before = self.located.len();
        for module in modules.iter_mut() {
            if self.located.contains(&module.id) {
                continue;
            }
            self.found(module, load_bases(module, &target));
        }
        self.located.len() > before
    }

    /// `files` are those of the modules.
    fn locate_told(&mut self, modules: &mut [Module], files: &[File], mapped: &Mapped) -> bool {
        let seen = (mapped.since_ns, mapped.code.len(), modules.len());
        if std::mem::replace(&mut self.seen, seen) == seen || self.located.len() == modules.len() {
            return false;
        }
        let before = self.located.len();
        for (module, file) in modules.iter_mut().zip(files) {
            if !self.located.contains(&module.id) {
                self.found(module, file.told_bases(module, mapped));
            }
        }
        self.located.len() > before
    }

    fn found(&mut self, module: &mut Module, bases: Vec<u64>) {
        if !bases.is_empty() {
            // The last one counts: a program that was replaced had its own.
            module.bases.extend(bases.into_iter().map(|base| (self.info.pid, base)));
            self.located.push(module.id);
        }
    }

    fn manifest(&self) -> Process {
        let (info, end) = (&self.info, self.end);
        Process {
            pid: info.pid,
            ppid: info.ppid,
            executable: info.executable.clone(),
            args: info.args.clone(),
            start_ns: info.start_ns,
            end_ns: end.map(|end| end.time_ns),
            exit_code: end.and_then(|end| end.exit_code),
            signal: end.and_then(|end| end.signal),
        }
    }
}

fn load_bases(module: &Module, target: &Target) -> Vec<u64> {
    let page_size = rustix::param::page_size() as u64;
    let Ok(elf) = Elf::open(Path::new(&module.open_path)) else { return Vec::new() };
    let file = target.files().iter().find(|file| file.id == elf.id());
    file.map_or(Vec::new(), |file| elf.load_bases(&file.mappings, page_size))
}

/// A module's file, of which each is asked for once and only if it is needed.
#[derive(Default)]
struct File {
    id: OnceCell<Option<FileId>>,
    elf: OnceCell<Option<Elf>>,
}

impl File {
    fn told_bases(&self, module: &Module, mapped: &Mapped) -> Vec<u64> {
        let id = self.id.get_or_init(|| FileId::of(&module.open_path).ok());
        let Some(id) = *id else { return Vec::new() };
        let code = mapped.code.iter().filter(|code| code.is(&module.path, id));
        let mappings: Vec<_> = code.map(|code| code.mapping).collect();
        if mappings.is_empty() {
            return Vec::new();
        }
        let page_size = rustix::param::page_size() as u64;
        let elf = self.elf.get_or_init(|| Elf::open(&module.open_path).ok());
        elf.as_ref().map_or(Vec::new(), |elf| elf.load_bases(&mappings, page_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: u32 = u32::MAX - 7;

    fn known(pid: u32) -> ProcessInfo {
        ProcessInfo { pid, ppid: 1, executable: "/bin/sh".into(), args: vec!["sh".into()], start_ns: 5 }
    }

    fn module(bases: Vec<(u32, u64)>) -> Module {
        Module { id: ModuleId(0), path: "a".into(), open_path: "a".into(), bases, ..Module::default() }
    }

    #[test]
    fn a_child_is_a_copy_of_its_parent_until_it_executes() {
        let mut processes = Processes::begin([known(10)].into_iter());
        processes.entries[0].located.push(ModuleId(0));
        let mut modules = [module(vec![(10, 0x1000), (10, 0x2000)])];
        processes.note(Life::Forked { pid: GONE, parent: 10, time_ns: 7 }, &mut modules);
        let child = processes.manifest().remove(1);
        assert_eq!((child.pid, child.ppid, child.executable.as_str(), child.start_ns), (GONE, 10, "/bin/sh", 7));
        assert_eq!(modules[0].bases.last(), Some(&(GONE, 0x2000)));
        let now = ProcessInfo { pid: GONE, ..ProcessInfo::default() };
        processes.note(Life::Executed { now, name: "ls".into(), time_ns: 8 }, &mut modules);
        let child = processes.manifest().remove(1);
        assert_eq!((child.ppid, child.executable.as_str(), child.start_ns), (10, "ls", 7));
        assert!(child.args.is_empty(), "the arguments were the parent's");
    }

    #[test]
    fn an_id_that_is_used_again_is_another_process() {
        let mut processes = Processes::begin([known(10)].into_iter());
        for status in [0x0300, 9] {
            processes.note(Life::Forked { pid: GONE, parent: 10, time_ns: 7 }, &mut []);
            processes.note(Life::Ended { pid: GONE, status, time_ns: 8 }, &mut []);
        }
        let all = processes.manifest();
        assert_eq!([all[1].exit_code, all[2].exit_code], [Some(3), None]);
        assert_eq!([all[1].signal, all[2].signal], [None, Some(9)]);
        processes.note(Life::Forked { pid: 10, parent: GONE, time_ns: 9 }, &mut []);
        processes.ended(10, ProcessEnd { time_ns: 9, ..ProcessEnd::default() });
        assert_eq!(processes.manifest()[0].end_ns, Some(9));
        assert_eq!(processes.manifest()[3].end_ns, None, "the one that has the id now has not ended");
    }

    #[test]
    fn an_end_that_was_seen_from_outside_first_is_the_same_end() {
        let mut processes = Processes::begin([known(10)].into_iter());
        processes.ended(10, ProcessEnd { time_ns: 9, ..ProcessEnd::default() });
        processes.note(Life::Ended { pid: 10, status: 0x0500, time_ns: 8 }, &mut []);
        assert_eq!((processes.manifest()[0].end_ns, processes.manifest()[0].exit_code), (Some(8), Some(5)));
        processes.ended(10, ProcessEnd { time_ns: 9, ..ProcessEnd::default() });
        assert_eq!(processes.manifest()[0].end_ns, Some(8));
    }

    #[test]
    fn events_alone_make_an_entry() {
        let mut processes = Processes::begin([known(10)].into_iter());
        let thread = |pid| {
            let mut thread = ThreadEntry::default();
            (thread.pid, thread.tid, thread.time_start_ns) = (pid, pid, 3);
            thread
        };
        let note = |processes: &mut Processes, threads: &[ThreadEntry]| processes.note_threads((0..).zip(threads));
        note(&mut processes, &[thread(10), thread(GONE)]);
        note(&mut processes, &[thread(10), thread(GONE), thread(GONE)]);
        let all = processes.manifest();
        assert_eq!((all.len(), all[1].pid, all[1].start_ns), (2, GONE, 3));
    }

    #[test]
    fn a_module_that_is_added_later_is_found_in_what_was_told_before() {
        let target = Target::from_pid(std::process::id()).unwrap();
        let own = FileId::of(&std::env::current_exe().unwrap()).unwrap();
        let file = target.files().iter().find(|file| file.id == own).unwrap();
        let mapping = *file.mappings.iter().find(|mapping| mapping.executable).unwrap();
        let told = Table::of_one(GONE, file.path.clone(), own, mapping);
        let mut processes = Processes::begin([known(GONE)].into_iter());
        let mut modules = vec![module(Vec::new())];
        assert!(!processes.locate_told(&mut modules, &told));
        let (path, open_path) = (file.path.clone(), file.path.clone());
        modules.push(Module { id: ModuleId(1), path, open_path, ..Module::default() });
        assert!(processes.locate_told(&mut modules, &told));
        assert_eq!(modules[1].bases.len(), 1);
        assert!(modules[1].bases.iter().all(|(pid, base)| *pid == GONE && load_bases(&modules[1], &target) == [*base]));
        assert!(!processes.locate_told(&mut modules, &told), "it is known by now");
    }

    #[test]
    fn who_has_ended_is_open_until_looked_at() {
        let mut processes = Processes::begin([known(10)].into_iter());
        processes.note(Life::Ended { pid: 10, status: 0, time_ns: 8 }, &mut []);
        assert!(processes.open().contains(&10));
        processes.locate_told(&mut [], &Table::default());
        assert!(processes.open().is_empty());
    }

    #[test]
    fn what_ended_before_everything_that_is_kept_is_forgotten() {
        let mut processes = Processes::begin([known(10)].into_iter());
        let mut modules = [module(vec![(10, 0x1000)])];
        processes.entries[0].located.push(ModuleId(0));
        for pid in [GONE, GONE - 1, GONE - 2] {
            processes.note(Life::Forked { pid, parent: 10, time_ns: 7 }, &mut modules);
        }
        for (pid, time_ns) in [(10, 8), (GONE, 8), (GONE - 1, 8)] {
            processes.note(Life::Ended { pid, status: 0, time_ns }, &mut modules);
        }
        processes.forget_before(9, &BTreeSet::from([GONE - 1]), &mut modules);
        let left: Vec<u32> = processes.manifest().iter().map(|process| process.pid).collect();
        assert_eq!(left, [10, GONE - 1, GONE - 2]);
        assert_eq!(modules[0].bases.iter().map(|(pid, _)| *pid).collect::<Vec<_>>(), [10, GONE - 1, GONE - 2]);
        processes.note(Life::Ended { pid: GONE - 2, status: 0x0100, time_ns: 10 }, &mut modules);
        assert_eq!(processes.manifest()[2].exit_code, Some(1));
    }
}
