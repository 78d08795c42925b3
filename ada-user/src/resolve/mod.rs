//! From specs and targets to the plan: which files, which functions, where in them the probes go.
//!
//! Invariant: every function of the plan lies in an executable segment, at the start of an instruction; and `returns`
//! is only set where the return address lies on top of the stack, at a function's first instruction.

mod demangle;
mod error;
mod functions;
mod modules;
mod returns;
mod site;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use demangle::demangle;
pub use error::ResolveError;

use crate::elf::{FileId, SymbolKind};
use crate::plan::{Function, FunctionId, Module, ModuleId, Plan, ProbeReport, Skipped};
use crate::spec::{FunctionSpec, ProbeSpec};
use crate::target::{Target, TargetFile};
use functions::{Code, Found, Lookup};
pub use returns::ReturnsPolicy;
use site::Site;

/// What is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolveOptions {
    /// How returns are recorded.
    pub returns: ReturnsPolicy,
}

/// Chooses what will be probed. With several targets, a spec must choose something in one of them; its files in all of
/// them are probed.
///
/// A spec with an offset records calls only, and so does code that is not called (`_start`, cold parts of functions)
/// or that moves its stacks (Go): a return probe there would overwrite something else than a return address.
///
/// # Errors
/// [`ResolveError`], for the first spec that chooses nothing.
pub fn resolve(specs: &[ProbeSpec], targets: &[Target], options: &ResolveOptions) -> Result<Plan, ResolveError> {
    if targets.is_empty() {
        return Err(ResolveError::NoTarget);
    }
    let mut planner = Planner { targets, options, files: Vec::new(), sites: HashMap::new(), plan: Plan::default() };
    for spec in specs {
        planner.add_spec(spec)?;
    }
    Ok(planner.finish())
}

struct Planner<'a> {
    targets: &'a [Target],
    options: &'a ResolveOptions,
    files: Vec<OpenFile>,
    /// (file, file offset of the probe) to the index in `plan.functions`.
    sites: HashMap<(FileId, u64), usize>,
    plan: Plan,
}

/// A file that specs have led to.
struct OpenFile {
    file: TargetFile,
    /// Index of the target that it was found in.
    target: usize,
    code: Code,
    module: Option<ModuleId>,
    functions: u32,
}

/// What a spec means in one file.
#[derive(Default)]
struct Sites {
    sites: Vec<Site>,
    /// Functions that have no site, and why.
    skipped: Vec<(String, ResolveError)>,
}

impl Planner<'_> {
    fn add_spec(&mut self, spec: &ProbeSpec) -> Result<(), ResolveError> {
        let mut report = ProbeReport { spec: spec.text.clone(), functions: Vec::new(), skipped: Vec::new() };
        let mut first_error = None;
        for index in self.locate(spec, &mut first_error) {
            if let Err(error) = self.add_from(index, spec, &mut report) {
                first_error.get_or_insert(error);
            }
        }
        match first_error {
            Some(error) if report.functions.is_empty() => Err(error),
            _ => {
                self.plan.probes.push(report);
                Ok(())
            }
        }
    }

    /// The files that a spec means, over all targets; each file once.
    fn locate(&mut self, spec: &ProbeSpec, first_error: &mut Option<ResolveError>) -> Vec<usize> {
        let mut indexes = Vec::new();
        for (target_index, target) in self.targets.iter().enumerate() {
            let opened = modules::locate(spec, target).and_then(|file| self.open(file, target_index));
            match opened {
                Ok(index) if !indexes.contains(&index) => indexes.push(index),
                Ok(_) => {}
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        indexes
    }

    fn open(&mut self, file: TargetFile, target: usize) -> Result<usize, ResolveError> {
        if let Some(known) = self.files.iter().position(|known| known.file.id == file.id) {
            return Ok(known);
        }
        let code = modules::open(&file, &self.targets[target])?;
        self.files.push(OpenFile { file, target, code, module: None, functions: 0 });
        Ok(self.files.len() - 1)
    }

    /// Adds what the spec means in one file; an error if that is nothing.
    fn add_from(&mut self, index: usize, spec: &ProbeSpec, report: &mut ProbeReport) -> Result<(), ResolveError> {
        let Sites { sites, skipped } = self.sites_in(index, spec)?;
        for (symbol, error) in &skipped {
            report.skipped.push(Skipped { symbol: symbol.clone(), why: error.clause() });
        }
        if sites.is_empty() {
            let error = skipped.into_iter().next().map(|(_, error)| error);
            return error.map_or(Ok(()), Err);
        }
        for site in sites {
            let id = self.add_site(index, site);
            if !report.functions.contains(&id) {
                report.functions.push(id);
            }
        }
        Ok(())
    }

    /// The sites, and the functions that have none with the reason.
    fn sites_in(&self, index: usize, spec: &ProbeSpec) -> Result<Sites, ResolveError> {
        let OpenFile { file, code, .. } = &self.files[index];
        let module = file.path.display().to_string();
        let Some(name) = &spec.function.name else {
            let address = spec.function.offset;
            let site = site::at_address(code, &module, &spec.module, address)?;
            return Ok(Sites { sites: vec![site], skipped: Vec::new() });
        };
        let lookup = code.find(name);
        if lookup.functions.is_empty() {
            return Err(self.nothing_found(index, name, spec, lookup));
        }
        let mut all = Sites::default();
        for found in lookup.functions {
            match site_of(code, &module, &found, &spec.function) {
                Ok(site) => all.sites.push(site),
                Err(error) => all.skipped.push((found.name, error)),
            }
        }
        Ok(all)
    }

    fn nothing_found(&self, index: usize, name: &str, spec: &ProbeSpec, lookup: Lookup) -> ResolveError {
        let OpenFile { file, code, target, .. } = &self.files[index];
        let (function, module) = (name.to_owned(), file.path.display().to_string());
        let spec_module = spec.module.to_string();
        let elsewhere = || modules::defined_elsewhere(name, Some(file), &self.targets[*target]);
        if !lookup.versions.is_empty() {
            let (function, version) = name.split_once('@').unwrap_or((name, ""));
            let (function, version) = (function.to_owned(), version.trim_start_matches('@').to_owned());
            return ResolveError::NoSuchVersion { function, version, module, versions: lookup.versions };
        }
        if lookup.imported {
            return ResolveError::Imported { function, module, elsewhere: elsewhere() };
        }
        match lookup.other {
            Some(SymbolKind::Data) => {
                return ResolveError::NotAFunction { function, module, spec_module, kind: "a variable" };
            }
            Some(_) => {
                return ResolveError::NotAFunction { function, module, spec_module, kind: "a label without a type" };
            }
            None => {}
        }
        if !code.has_names() {
            return ResolveError::Stripped { function, module, spec_module };
        }
        let (near, stripped) = (code.near(name), code.is_stripped());
        ResolveError::NotFound { near, stripped, elsewhere: elsewhere(), function, module }
    }

    /// Adds a site, or joins it with the same one of an earlier spec.
    fn add_site(&mut self, index: usize, site: Site) -> FunctionId {
        let file = &mut self.files[index];
        let key = (file.file.id, site.probe_offset);
        let returns = returns::choose(&file.code, &site, self.options.returns);
        if let Some(known) = self.sites.get(&key).and_then(|&known| self.plan.functions.get_mut(known)) {
            if returns.are_recorded() && !known.returns.are_recorded() {
                *known = site.into_function(known.id, returns);
            }
            return known.id;
        }
        let module = *file.module.get_or_insert_with(|| {
            let id = ModuleId(u32::try_from(self.plan.modules.len()).unwrap_or(u32::MAX));
            self.plan.modules.push(new_module(id, &file.file, &file.code));
            id
        });
        let id = FunctionId::new(module, file.functions);
        file.functions += 1;
        self.sites.insert(key, self.plan.functions.len());
        self.plan.functions.push(site.into_function(id, returns));
        id
    }

    /// Adds where the modules are loaded, in every target, and sorts.
    fn finish(mut self) -> Plan {
        let page_size = rustix::param::page_size() as u64;
        for open in self.files.iter().filter(|open| open.module.is_some()) {
            let module = open.module.and_then(|id| self.plan.modules.get_mut(id.0 as usize));
            let Some(module) = module else { continue };
            for target in self.targets {
                let Some(pid) = target.pid() else { continue };
                let same = target.files().iter().filter(|file| file.id == open.file.id);
                let bases = same.flat_map(|file| open.code.elf.load_bases(&file.mappings, page_size));
                module.bases.extend(bases.map(|base| (pid, base)));
            }
            module.bases.sort_unstable();
            module.bases.dedup();
        }
        self.plan.functions.sort_by_key(|function: &Function| function.id);
        self.plan
    }
}

fn site_of(code: &Code, module: &str, found: &Found, spec: &FunctionSpec) -> Result<Site, ResolveError> {
    if found.ifunc {
        let (function, module) = (found.name.clone(), module.to_owned());
        let mut near = code.near(&found.name);
        near.retain(|name| *name != found.name);
        return Err(ResolveError::Ifunc { function, module, near });
    }
    site::in_function(code, module, found, spec.offset)
}

fn new_module(id: ModuleId, file: &TargetFile, code: &Code) -> Module {
    let (path, open_path) = (file.path.clone(), file.open_path.clone());
    Module { id, path, open_path, build_id: code.elf.build_id(), bases: Vec::new() }
}
