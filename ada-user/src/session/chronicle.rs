//! The manifest of a recording, made afresh from plan, processes and ledger each time it is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ada_format::{
    layout::Arch,
    manifest::{
        Anchor, Clock, Cut, Function, Gap, Host, Lost, Manifest, Module, Muted, Probe, Returns, Session, SessionStatus,
        SkippedSymbol, Thread, Tool,
    },
    read::IndexReader,
    session::thread_folder,
    write::INDEX_FILE,
};

use super::{ProcessEnd, mapped::MappingLog, processes::Processes};
use crate::{
    backend::Refusal,
    clock,
    collect::{self, Known, Ledger, Life, ThreadEntry},
    follow::{self, Follower, Wanted},
    plan::{self, Plan},
    process::{self, ProcessInfo},
};

/// All that a manifest says and the ledger does not know.
#[derive(Debug)]
pub(super) struct Chronicle {
    plan: Plan,
    processes: Processes,
    /// What the kernel tells of their mappings, where it does.
    log: Option<MappingLog>,
    started: Anchor,
    ended: Option<Anchor>,
    session_id: String,
}

impl Chronicle {
    /// Looks at the processes, while everything about them can still be read and, with the right to, listened to.
    pub(super) fn begin(plan: &Plan, pids: &[u32], known: &[ProcessInfo]) -> Self {
        let started = anchor();
        Self {
            plan: plan.clone(),
            processes: Processes::begin(pids.iter().map(|pid| process_info(*pid, known))),
            log: MappingLog::open(),
            started,
            ended: None,
            session_id: format!("{:x}-{:x}", started.realtime_ns, std::process::id()),
        }
    }

    /// The probes are in place but for `refusals`, in the processes `adopted` as well: the recording counts from now.
    pub(super) fn attached(&mut self, refusals: &[Refusal], adopted: &[u32]) {
        self.started = anchor();
        self.processes.also(adopted.iter().map(|pid| ProcessInfo::read(*pid)));
        refusals.iter().for_each(|refusal| self.plan.refuse(refusal));
    }

    /// The probes are about to go.
    pub(super) fn ends(&mut self) {
        self.ended = Some(anchor());
    }

    pub(super) fn process_ended(&mut self, pid: u32, end: ProcessEnd) {
        self.processes.ended(pid, end);
    }

    /// Who looks for what is wanted in what the processes begin to execute and load.
    pub(super) fn follower(&self, wanted: Wanted, plan: &Plan) -> Follower {
        let mut follower = Follower::new(wanted, plan);
        for process in self.processes.manifest() {
            follower.meet(process.pid, &process.executable);
        }
        follower
    }

    /// What triggers choose among.
    pub(super) fn known(&self) -> Known {
        let programs = self.processes.manifest().into_iter().map(|process| PathBuf::from(process.executable));
        Known::new(&self.plan, programs.collect())
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes note of what was probed since. True if that is anything.
    pub(super) fn extend(&mut self, additions: Vec<Plan>) -> bool {
        let grown = !additions.is_empty();
        additions.into_iter().for_each(|addition| follow::join(&mut self.plan, addition));
        grown
    }

    /// Takes note of processes that came, changed or went.
    pub(super) fn note_lives(&mut self, lives: Vec<Life>, ledger: &Ledger) {
        for life in lives {
            self.processes.note(life, &mut self.plan.modules);
        }
        self.processes.note_threads(ledger.threads.iter().map(|(id, thread)| (*id, thread)));
        if let Some(from_ns) = ledger.complete_from_ns {
            let kept: BTreeSet<u32> = ledger.threads.values().map(|thread| thread.pid).collect();
            self.processes.forget_before(from_ns, &kept, &mut self.plan.modules);
        }
    }

    /// Looks where modules are loaded by now, in processes where that was not known. True if something was found.
    pub(super) fn locate_modules(&mut self) -> bool {
        let told = self.log.as_mut().is_some_and(|log| {
            let open = self.processes.open();
            let table = log.catch_up(clock::boottime_ns(), |pid| open.contains(&pid));
            self.processes.locate_told(&mut self.plan.modules, table)
        });
        self.processes.locate(&mut self.plan.modules) || told
    }

    pub(super) fn duration(&self) -> Duration {
        let ended = self.ended.map_or_else(clock::boottime_ns, |ended| ended.boottime_ns);
        Duration::from_nanos(ended.saturating_sub(self.started.boottime_ns))
    }

    /// For how long everything is there, if what was before is not.
    pub(super) fn kept(&self, ledger: &Ledger) -> Option<Duration> {
        let ended = self.ended.map_or_else(clock::boottime_ns, |ended| ended.boottime_ns);
        ledger.complete_from_ns.map(|from_ns| Duration::from_nanos(ended.saturating_sub(from_ns)))
    }

    /// The manifest as of now. `finished` is the folder of a recording that has ended, whose files can be read.
    pub(super) fn manifest(&self, ledger: &Ledger, finished: Option<&Path>) -> Manifest {
        let now = anchor();
        let times = || ledger.threads.values().filter(|thread| thread.event_count > 0);
        Manifest {
            tool: Tool { name: "ada-trace".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            arch: Arch::host().name().to_owned(),
            host: host(),
            clock: Clock { anchors: vec![self.started, now], ..Clock::default() },
            session: self.session(ledger, finished.map(|_| self.ended.unwrap_or(now))),
            time_start_ns: times().map(|thread| thread.time_start_ns).min().unwrap_or(0),
            time_end_ns: times().map(|thread| thread.time_end_ns).max().unwrap_or(0),
            complete_from_ns: ledger.complete_from_ns,
            cut: cut(ledger),
            event_count: ledger.events(),
            process: self.processes.manifest(),
            probes: self.probes(),
            modules: self.modules(),
            functions: self.functions(),
            threads: ledger.threads.iter().map(|(id, entry)| thread(*id, entry)).collect(),
            lost: lost(ledger, finished),
            muted: ledger.muted.iter().map(muted).collect(),
            windows: ledger.windows.iter().flat_map(|windows| windows.iter().map(|window| window.manifest())).collect(),
            ..Manifest::default()
        }
    }

    fn session(&self, ledger: &Ledger, ended: Option<Anchor>) -> Session {
        Session {
            id: self.session_id.clone(),
            started_at: rfc3339(self.started.realtime_ns),
            ended_at: ended.map(|ended| rfc3339(ended.realtime_ns)),
            status: if ended.is_some() { SessionStatus::Complete } else { SessionStatus::Recording },
            complete: ended.is_some() && ledger.is_complete(),
        }
    }

    fn probes(&self) -> Vec<Probe> {
        let skipped =
            |skipped: &plan::Skipped| SkippedSymbol { symbol: skipped.symbol.clone(), why: skipped.why.clone() };
        let probe = |report: &plan::ProbeReport| Probe {
            spec: report.spec.clone(),
            functions: report.functions.len() as u64,
            skipped: report.skipped.iter().map(skipped).collect(),
        };
        self.plan.probes.iter().map(probe).collect()
    }

    fn modules(&self) -> Vec<Module> {
        let module = |module: &plan::Module| Module {
            module_id: module.id.0,
            path: module.path.to_string_lossy().into_owned(),
            build_id: module.build_id.clone(),
            language: module.is_go.then(|| "go".to_owned()),
            bases: module.bases.iter().copied().collect(),
        };
        self.plan.modules.iter().map(module).collect()
    }

    fn functions(&self) -> Vec<Function> {
        let function = |function: &plan::Function| Function {
            function_id: function.id.0,
            name: function.name.clone(),
            demangled: function.demangled.clone(),
            aliases: function.aliases.clone(),
            offset: function.address,
            size: function.size,
            probe_offset: function.probe_offset,
            returns: returns(&function.returns),
            signature: function.signature.clone(),
        };
        self.plan.functions.iter().map(function).collect()
    }
}

fn returns(returns: &plan::Returns) -> Returns {
    match returns {
        plan::Returns::NotRecorded(_) => Returns::None,
        plan::Returns::Probe => Returns::Probe,
        plan::Returns::Exits(_) => Returns::Exits,
    }
}

/// What is known beforehand, with what /proc adds.
fn process_info(pid: u32, known: &[ProcessInfo]) -> ProcessInfo {
    let read = ProcessInfo::read(pid);
    let known = known.iter().find(|known| known.pid == pid);
    known.map_or(read.clone(), |known| ProcessInfo { start_ns: read.start_ns, ppid: read.ppid, ..known.clone() })
}

fn thread(id: u32, entry: &ThreadEntry) -> Thread {
    let alive = || process::thread_name(entry.pid, entry.tid);
    Thread {
        id,
        pid: entry.pid,
        tid: entry.tid,
        name: entry.name.clone().or_else(alive).unwrap_or_default(),
        has_detail: entry.detail_count > 0,
        event_count: entry.event_count,
        detail_count: entry.detail_count,
        time_start_ns: entry.time_start_ns,
        time_end_ns: entry.time_end_ns,
        lost: entry.lost,
        continues: entry.continues,
        missed_returns: entry.missed_returns,
    }
}

fn lost(ledger: &Ledger, finished: Option<&Path>) -> Lost {
    let reason = |(reason, count): (&'static str, u64)| (reason.to_owned(), count);
    Lost {
        total: ledger.lost(),
        by_reason: ledger.lost_by_reason().into_iter().map(reason).collect(),
        gaps: located(ledger.gaps(), finished),
        details: ledger.details_missed,
    }
}

/// What was deleted, as asked.
fn cut(ledger: &Ledger) -> Option<Cut> {
    let collect::Cut { folders, events, lost } = ledger.cut;
    ledger.complete_from_ns.map(|_| Cut { folders, events, lost })
}

fn muted(muted: &collect::Muted) -> Muted {
    Muted { function_id: muted.function_id, at_ns: muted.at_ns, calls_per_s: muted.calls_per_s }
}

/// Where in the threads' finished index files gaps begin.
fn located<'a>(gaps: impl Iterator<Item = &'a collect::Gap>, finished: Option<&Path>) -> Vec<Gap> {
    let mut indexes: BTreeMap<u32, Option<IndexReader>> = BTreeMap::new();
    let mut after = |gap: &collect::Gap| {
        let open = || IndexReader::open(&thread_folder(finished?, gap.thread).join(INDEX_FILE)).ok();
        let index = indexes.entry(gap.thread).or_insert_with(open).as_ref()?;
        let before = index.events().partition_point(|event| event.timestamp_ns.get() < gap.first_ns);
        before.checked_sub(1).map(|position| position as u64)
    };
    let entry = |gap: &collect::Gap| Gap {
        thread: gap.thread,
        after_index_seq: after(gap),
        count: gap.count,
        time_start_ns: gap.first_ns,
        time_end_ns: gap.last_ns,
    };
    gaps.map(entry).collect()
}

fn anchor() -> Anchor {
    Anchor { boottime_ns: clock::boottime_ns(), realtime_ns: clock::realtime_ns() }
}

fn host() -> Host {
    let uname = rustix::system::uname();
    Host {
        kernel: uname.release().to_string_lossy().into_owned(),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        cpus: processors(),
    }
}

fn processors() -> u32 {
    let parallelism = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // What is online, not what this process may use.
    let online = fs::read_to_string("/proc/stat").unwrap_or_default();
    let lines = online.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    u32::try_from(lines.max(parallelism)).unwrap_or(u32::MAX)
}

fn rfc3339(realtime_ns: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(realtime_ns)).unwrap_or_default();
    format!("{time:.3}")
}
