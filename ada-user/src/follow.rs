//! A recording that grows: what its specs mean in programs that begin after it did, and the plan with that added.
//!
//! Invariant: a plan only grows; what it once named keeps its ids. A file is known by its identity, not by its path.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use crate::{
    elf::{Elf, FileId, Symbol},
    filter::Filters,
    plan::{FunctionId, Module, ModuleId, Plan, ProbeReport},
    resolve::{ResolveError, ResolveOptions, resolve},
    spec::{ModuleSpec, ProbeSpec},
    target::{Target, TargetError, TargetFile},
};

/// What is asked for, to be looked up again in each new program.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The specs.
    pub specs: Vec<ProbeSpec>,
    /// How their functions are recorded.
    pub options: ResolveOptions,
    /// Whether processes execute programs that are recorded, too.
    pub programs: bool,
    /// What is left out; in what is found later, also what they cannot follow.
    pub filters: Filters,
}

impl Wanted {
    /// Whether a new program or library may have functions that the specs mean and `plan` does not know: a spec with a path
    /// means one file.
    #[must_use]
    pub fn may_grow(&self, plan: &Plan) -> bool {
        self.programs && self.specs.iter().any(may_mean_more) || self.awaits_libraries(plan)
    }

    /// Whether a spec names a library that was not there, or means all libraries that there may be.
    fn awaits_libraries(&self, plan: &Plan) -> bool {
        let found = |spec: &ProbeSpec| {
            plan.probes.iter().any(|report| report.spec == spec.text && !report.functions.is_empty())
        };
        self.specs.iter().any(|spec| match spec.module {
            ModuleSpec::Library(_) => !found(spec),
            ModuleSpec::Pattern(_) => true,
            ModuleSpec::Executable | ModuleSpec::Path(_) => false,
        })
    }

    /// Like [`resolve`], but a spec that means nothing in the targets may still mean something in a program that they
    /// execute: those are given back as well, with the reason.
    ///
    /// # Errors
    /// [`ResolveError`], for the first spec that is wrong wherever it is looked up.
    pub fn resolve(&self, targets: &[Target]) -> Result<(Plan, Vec<ResolveError>), ResolveError> {
        let (mut plan, mut waiting) = (Growing::new(&Plan::default()), Vec::new());
        for spec in &self.specs {
            match resolve(std::slice::from_ref(spec), targets, &self.options) {
                Ok(found) => drop(plan.add(found)),
                Err(error) if may_mean_more(spec) && is_only_absent(&error) => {
                    plan.add(Plan { probes: vec![empty_report(spec)], ..Plan::default() });
                    waiting.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((plan.plan, waiting))
    }
}

fn may_mean_more(spec: &ProbeSpec) -> bool {
    !matches!(spec.module, ModuleSpec::Path(_))
}

fn is_only_absent(error: &ResolveError) -> bool {
    use ResolveError::{NoFileMatches, NotLoaded, NothingMatches, UnknownLibrary};
    error.is_absence()
        || matches!(error, NotLoaded { .. } | UnknownLibrary { .. } | NoFileMatches { .. } | NothingMatches { .. })
}

fn empty_report(spec: &ProbeSpec) -> ProbeReport {
    ProbeReport { spec: spec.text.clone(), ..ProbeReport::default() }
}

/// Looks up what is wanted in one program after the other.
#[derive(Debug)]
pub struct Follower {
    wanted: Wanted,
    growing: Growing,
    /// Programs that were looked into, with what else decides which libraries they load.
    known: HashSet<(FileId, Vec<OsString>)>,
    /// Files that were looked into because they were mapped.
    mapped: HashSet<FileId>,
    /// Loaders that were met, if libraries are awaited, and those of them that nobody has asked for.
    loaders: Option<HashSet<FileId>>,
    new_loaders: Vec<(PathBuf, u64)>,
}

impl Follower {
    /// Goes on from `plan`.
    #[must_use]
    pub fn new(wanted: Wanted, plan: &Plan) -> Self {
        let loaders = wanted.awaits_libraries(plan).then(HashSet::new);
        let growing = Growing::new(plan);
        let (known, mapped) = (HashSet::new(), HashSet::new());
        Self { wanted, growing, known, mapped, loaders, new_loaders: Vec::new() }
    }

    /// Meets the loaders of processes that run, or wait to run `executable`.
    pub fn meet(&mut self, pid: u32, executable: &str) {
        let program = || Target::from_command(Path::new(executable), &environment(pid));
        let targets = [Target::from_pid(pid).ok(), program().ok()];
        targets.iter().flatten().for_each(|target| self.meet_loader(target));
    }

    /// File and offset of the functions by which the loaders met since the last call tell of libraries.
    pub fn new_loaders(&mut self) -> Vec<(PathBuf, u64)> {
        std::mem::take(&mut self.new_loaders)
    }

    /// What is to be probed because process `pid` has other libraries mapped than it had; none if that is nothing new.
    pub fn libraries(&mut self, pid: u32) -> Option<Plan> {
        let target = Target::from_pid(pid).ok()?;
        let new: Vec<FileId> = target.files().iter().map(|file| file.id).filter(|id| self.mapped.insert(*id)).collect();
        if new.is_empty() { None } else { self.look(&target) }
    }

    /// What is to be probed because process `pid` has begun another program, whose libraries its loader has not mapped
    /// yet; none if that is nothing new, or the process has gone.
    pub fn program(&mut self, pid: u32) -> Option<Plan> {
        let file = FileId::of(&PathBuf::from(format!("/proc/{pid}/exe"))).ok()?;
        let environment = environment(pid);
        let loading = environment.iter().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LD_"));
        if !self.known.insert((file, loading.map(|(_, value)| value.clone()).collect())) {
            return None;
        }
        let target = program_of(pid, file, &environment).ok()?;
        self.meet_loader(&target);
        self.look(&target)
    }

    fn meet_loader(&mut self, target: &Target) {
        let Some(loaders) = &mut self.loaders else { return };
        let is_loader = |file: &&TargetFile| file.names.iter().any(|name| name.starts_with("ld"));
        for file in target.files().iter().filter(is_loader) {
            if loaders.insert(file.id) {
                self.new_loaders.extend(announcement(&file.open_path).map(|offset| (file.open_path.clone(), offset)));
            }
        }
    }

    /// Adds what the specs mean in `target` and is new, and tells of what the filters had to leave out of it.
    fn look(&mut self, target: &Target) -> Option<Plan> {
        let mut found = Growing::new(&self.growing.plan);
        let (mut new, mut leaves_out) = (Plan::default(), false);
        for spec in self.wanted.specs.iter().filter(|spec| self.growing.lacks(spec, target)) {
            // A program that has nothing of the sort is none of the spec's business.
            let meant = resolve(std::slice::from_ref(spec), std::slice::from_ref(target), &self.wanted.options);
            if let Ok(mut plan) = meant {
                leaves_out |= self.wanted.filters.leave_out(&mut plan).is_some();
                join(&mut new, found.add(plan));
            }
        }
        self.growing = found;
        (leaves_out || !new.functions.is_empty()).then_some(new)
    }
}

/// File offset of the function that a loader calls when it has mapped libraries, and before any of their code runs, for
/// debuggers to put a breakpoint on (`r_brk` in link.h).
fn announcement(loader: &Path) -> Option<u64> {
    let elf = Elf::open(loader).ok()?;
    let tables = [elf.dynsym(), elf.symtab()];
    let mut named = tables.iter().flatten().flat_map(|table| table.named("_dl_debug_state"));
    elf.code_offset(named.find(Symbol::is_function)?.address)
}

/// The program of a process that has just begun: what its loader will map, or, where the process sees other files than
/// this one, what it has mapped so far.
fn program_of(pid: u32, file: FileId, environment: &[(OsString, OsString)]) -> Result<Target, TargetError> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    if FileId::of(&path).is_ok_and(|ours| ours == file) {
        return Target::from_command(&path, environment);
    }
    Target::from_pid(pid)
}

/// The environment that a process began with.
fn environment(pid: u32) -> Vec<(OsString, OsString)> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let pair = |entry: &[u8]| {
        let split = entry.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (entry.get(..split)?, entry.get(split + 1..)?);
        Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
    };
    bytes.split(|byte| *byte == 0).filter_map(pair).collect()
}

/// A plan and the identities of its files.
#[derive(Debug)]
struct Growing {
    plan: Plan,
    files: Vec<Option<FileId>>,
    /// Files of names that no spec so far had a use for; `None` before the first.
    unused: Option<Vec<PathBuf>>,
}

impl Growing {
    fn new(plan: &Plan) -> Self {
        let files = plan.modules.iter().map(|module| FileId::of(&module.open_path).ok()).collect();
        Self { plan: plan.clone(), files, unused: None }
    }

    /// Whether a spec may mean a file of the target that was not looked into for it.
    fn lacks(&self, spec: &ProbeSpec, target: &Target) -> bool {
        let is_known = |file: FileId| {
            let module = self.files.iter().position(|known| *known == Some(file));
            let report = self.plan.probes.iter().find(|report| report.spec == spec.text);
            let has = |id: &FunctionId| Some(id.module().0 as usize) == module;
            report.is_some_and(|report| report.functions.iter().any(has))
        };
        match &spec.module {
            ModuleSpec::Path(_) => false,
            ModuleSpec::Executable => target.executable().is_none_or(|file| !is_known(file.id)),
            ModuleSpec::Library(name) => {
                let files = target.files_named(name);
                // What a process has not mapped will be told of when it has.
                files.is_empty() && target.pid().is_none() || files.iter().any(|file| !is_known(file.id))
            }
            // Files without a function that matches are not known either.
            ModuleSpec::Pattern(_) => true,
        }
    }

    /// Adds what is new in `found`, under ids of its own; gives that back.
    fn add(&mut self, found: Plan) -> Plan {
        let mut new = Plan::default();
        let mut ids = BTreeMap::new();
        let place = |function: &crate::plan::Function| (function.id.module(), function.asked_offset());
        let known: HashMap<_, _> = self.plan.functions.iter().map(|known| (place(known), known.id)).collect();
        let mut next: HashMap<ModuleId, u32> = HashMap::new();
        for function in found.functions {
            let Some(module) = found.modules.get(function.id.module().0 as usize) else { continue };
            let module = self.module(module);
            let known = known.get(&(module, function.asked_offset())).copied();
            let id = known.unwrap_or_else(|| {
                let next = next.entry(module).or_insert_with(|| self.next_symbol(module));
                *next += 1;
                FunctionId::new(module, *next - 1)
            });
            ids.insert(function.id, id);
            if known.is_none() {
                let function = crate::plan::Function { id, ..function };
                self.plan.functions.push(function.clone());
                new.functions.push(function);
            }
        }
        for mut report in found.probes {
            report.functions = report.functions.iter().filter_map(|id| ids.get(id).copied()).collect();
            new.probes.push(report);
        }
        self.plan.functions.sort_by_key(|function| function.id);
        // What one spec's files have no use for, another's may have.
        self.plan.unused_symbols = match std::mem::take(&mut self.unused) {
            None => found.unused_symbols,
            Some(unused) => unused.into_iter().filter(|path| found.unused_symbols.contains(path)).collect(),
        };
        self.unused = Some(self.plan.unused_symbols.clone());
        join_reports(&mut self.plan.probes, &new.probes);
        let used: HashSet<ModuleId> = new.functions.iter().map(|function| function.id.module()).collect();
        new.modules = self.plan.modules.iter().filter(|module| used.contains(&module.id)).cloned().collect();
        new
    }

    /// The id of a file, which is a new one or a known one.
    fn module(&mut self, module: &Module) -> ModuleId {
        let file = FileId::of(&module.open_path).ok();
        if let Some(known) = self.files.iter().position(|known| file.is_some() && *known == file)
            && let Some(known) = self.plan.modules.get_mut(known)
        {
            known.bases.extend(module.bases.iter().filter(|base| !known.bases.contains(base)).collect::<Vec<_>>());
            return known.id;
        }
        let id = ModuleId(u32::try_from(self.plan.modules.len()).unwrap_or(u32::MAX));
        self.plan.modules.push(Module { id, ..module.clone() });
        self.files.push(file);
        id
    }

    /// The first symbol index of a module that no function has.
    fn next_symbol(&self, module: ModuleId) -> u32 {
        let of = self.plan.functions.iter().map(|function| function.id).filter(|id| id.module() == module);
        of.max().map_or(0, |last| u32::try_from(last.0 & u64::from(u32::MAX)).unwrap_or(u32::MAX).saturating_add(1))
    }
}

/// Adds `new`, which [`Follower::program`] gave, to a plan that lacks nothing but that.
pub(crate) fn join(plan: &mut Plan, new: Plan) {
    for module in new.modules {
        if !plan.modules.iter().any(|known| known.id == module.id) {
            plan.modules.push(module);
        }
    }
    plan.functions.extend(new.functions);
    plan.functions.sort_by_key(|function| function.id);
    join_reports(&mut plan.probes, &new.probes);
}

fn join_reports(reports: &mut Vec<ProbeReport>, new: &[ProbeReport]) {
    for report in new {
        let Some(known) = reports.iter_mut().find(|known| known.spec == report.spec) else {
            reports.push(report.clone());
            continue;
        };
        known.excluded += report.excluded;
        known.functions.extend(&report.functions);
        known.functions.sort_unstable();
        known.functions.dedup();
        let mut seen: HashSet<(String, String)> = HashSet::new();
        known.skipped.extend(report.skipped.iter().cloned());
        known.skipped.retain(|skipped| seen.insert((skipped.symbol.clone(), skipped.why.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Function, Returns};

    fn found(path: &Path, sites: &[u64]) -> Plan {
        let id = ModuleId(0);
        let module = Module { id, path: path.to_owned(), open_path: path.to_owned(), ..Module::default() };
        let function = |(index, site): (usize, &u64)| Function {
            id: FunctionId::new(id, u32::try_from(index).unwrap()),
            name: format!("f{site}"),
            offset: *site,
            address: *site,
            probe_offset: *site,
            returns: Returns::Probe,
            ..Function::default()
        };
        let functions: Vec<Function> = sites.iter().enumerate().map(function).collect();
        let ids = functions.iter().map(|function| function.id).collect();
        let probes = vec![ProbeReport { spec: "exe:f".into(), functions: ids, ..ProbeReport::default() }];
        Plan { modules: vec![module], functions, probes, ..Plan::default() }
    }

    #[test]
    fn what_is_known_keeps_its_ids_and_only_the_rest_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        fs::write(&a, "a").unwrap();
        fs::write(&b, "b").unwrap();
        let mut growing = Growing::new(&found(&a, &[16, 32]));
        assert!(growing.add(found(&a, &[32])).functions.is_empty());
        let new = growing.add(found(&b, &[16]));
        assert_eq!(new.functions[0].id, FunctionId::new(ModuleId(1), 0));
        assert_eq!((new.modules.len(), new.modules[0].id), (1, ModuleId(1)));
        let new = growing.add(found(&a, &[16, 48]));
        assert_eq!(new.functions.iter().map(|it| it.id).collect::<Vec<_>>(), [FunctionId::new(ModuleId(0), 2)]);
        assert_eq!(growing.plan.modules.len(), 2);
        assert_eq!(growing.plan.probes[0].functions.len(), 4);
        let mut elsewhere = found(&a, &[16, 32]);
        let mut again = Growing::new(&elsewhere);
        join(&mut elsewhere, again.add(found(&b, &[16])));
        assert_eq!(elsewhere, again.plan);
    }
}
