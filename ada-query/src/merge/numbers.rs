//! New numbers for modules, functions and processes.
//!
//! Invariant: two things of one session never get the same number, and two of different sessions only if they are the same:
//! a module by its path and build id (without one, on the same host), a function by module, name and place, a process by
//! host, id and program.

use std::collections::{BTreeMap, HashMap, HashSet};

use ada_format::manifest::{Function, Manifest, Module, Process};

/// No process of a Linux machine has this id or a greater one.
const BEYOND_PIDS: u32 = 1 << 22;

/// What tells modules apart: path, build id, and the host where there is no build id.
type ModuleKey = (String, Option<String>, Option<String>);

/// All that was numbered so far.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    modules: HashMap<ModuleKey, u32>,
    next_module: u32,
    /// By the new module: the number of its next function.
    next_function: HashMap<u32, u32>,
    functions: HashMap<(u32, String, u64), u64>,
    /// By host, own id and program: the id given.
    pids: HashMap<(String, u32, String), u32>,
    taken_pids: HashSet<u32>,
    next_pid: u32,
}

/// The numbers of one session.
#[derive(Debug, Default)]
pub(super) struct Renumbered {
    modules: HashMap<u32, u32>,
    functions: HashMap<u64, u64>,
    /// New ids of functions that are taken by one of this session.
    taken: HashSet<u64>,
    /// Those that changed.
    pub(super) pids: BTreeMap<u32, u32>,
}

impl Numbers {
    /// Numbers what is in `manifest`, and adds to `into` what is not there yet.
    pub(super) fn add(&mut self, manifest: &Manifest, into: &mut Manifest) -> Renumbered {
        let mut new = Renumbered::default();
        for process in &manifest.process {
            self.pid(process, &manifest.host.hostname, &mut new);
        }
        for process in &manifest.process {
            add_process(process, into, &new);
        }
        for module in &manifest.modules {
            self.module(module, &manifest.host.hostname, into, &mut new);
        }
        for function in &manifest.functions {
            self.function(function, into, &mut new);
        }
        new
    }

    /// The new id of a function, which the manifest need not have.
    pub(super) fn function_id(&mut self, old: u64, new: &mut Renumbered) -> u64 {
        if let Some(id) = new.functions.get(&old) {
            return *id;
        }
        let module = self.module_of(old, new);
        let id = self.next_of(module);
        new.functions.insert(old, id);
        id
    }

    fn pid(&mut self, process: &Process, host: &str, new: &mut Renumbered) {
        let old = process.pid;
        let owner = (host.to_owned(), old, process.executable.clone());
        let known = self.pids.get(&owner).copied();
        let pid = known.unwrap_or_else(|| if self.taken_pids.contains(&old) { self.fresh_pid() } else { old });
        self.pids.insert(owner, pid);
        self.taken_pids.insert(pid);
        if pid != old {
            new.pids.insert(old, pid);
        }
    }

    fn fresh_pid(&mut self) -> u32 {
        self.next_pid = self.next_pid.max(BEYOND_PIDS) + 1;
        while self.taken_pids.contains(&self.next_pid) {
            self.next_pid += 1;
        }
        self.next_pid
    }

    fn module(&mut self, module: &Module, host: &str, into: &mut Manifest, new: &mut Renumbered) {
        let bases: BTreeMap<u32, u64> = module.bases.iter().map(|(pid, base)| (new.pid(*pid), *base)).collect();
        let host = module.build_id.is_none().then(|| host.to_owned());
        let key = (module.path.clone(), module.build_id.clone(), host);
        let known = self.modules.get(&key).copied().filter(|id| !new.modules.values().any(|used| used == id));
        let id = known.unwrap_or_else(|| self.fresh_module());
        new.modules.insert(module.module_id, id);
        match into.modules.iter_mut().find(|other| other.module_id == id) {
            Some(known) => known.bases.extend(bases),
            None => {
                self.modules.insert(key, id);
                into.modules.push(Module { module_id: id, bases, ..module.clone() });
            }
        }
    }

    fn function(&mut self, function: &Function, into: &mut Manifest, new: &mut Renumbered) {
        if new.functions.contains_key(&function.function_id) {
            return;
        }
        let module = self.module_of(function.function_id, new);
        let key = (module, function.name.clone(), function.probe_offset);
        let known = self.functions.get(&key).copied().filter(|id| !new.taken.contains(id));
        let id = known.unwrap_or_else(|| self.next_of(module));
        if self.functions.insert(key, id).is_none() || known.is_none() {
            into.functions.push(Function { function_id: id, ..function.clone() });
        }
        new.taken.insert(id);
        new.functions.insert(function.function_id, id);
    }

    fn module_of(&mut self, function: u64, new: &mut Renumbered) -> u32 {
        let old = u32::try_from(function >> 32).unwrap_or(u32::MAX);
        *new.modules.entry(old).or_insert_with(|| self.fresh_module())
    }

    fn fresh_module(&mut self) -> u32 {
        self.next_module += 1;
        self.next_module
    }

    fn next_of(&mut self, module: u32) -> u64 {
        let next = self.next_function.entry(module).or_default();
        let id = u64::from(module) << 32 | u64::from(*next);
        *next = next.saturating_add(1);
        id
    }
}

/// Adds a process, or what this session knows more of it.
fn add_process(process: &Process, into: &mut Manifest, new: &Renumbered) {
    let pid = new.pid(process.pid);
    match into.process.iter_mut().find(|known| known.pid == pid) {
        Some(known) => {
            known.start_ns = known.start_ns.min(process.start_ns);
            known.end_ns = known.end_ns.or(process.end_ns);
            known.exit_code = known.exit_code.or(process.exit_code);
            known.signal = known.signal.or(process.signal);
        }
        None => into.process.push(Process { pid, ppid: new.pid(process.ppid), ..process.clone() }),
    }
}

impl Renumbered {
    /// The new id of a process.
    pub(super) fn pid(&self, old: u32) -> u32 {
        self.pids.get(&old).copied().unwrap_or(old)
    }
}
