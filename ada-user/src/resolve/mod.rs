//! From specs and targets to the plan: which files, which functions, where in them the probes go.
//!
//! Invariant: every function of the plan lies in an executable segment, at the start of an instruction; and `returns`
//! is only set where the return address lies on top of the stack, at a function's first instruction.

mod among;
mod catalogue;
mod demangle;
mod error;
mod excludes;
mod functions;
mod modules;
mod named;
mod nameless;
mod returns;
mod site;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use among::among;
pub use demangle::demangle;
pub use error::ResolveError;
pub use excludes::DEFAULT_EXCLUDES;
pub use returns::ReturnsPolicy;

use crate::elf::{FileId, SymbolFile, SymbolKind};
use crate::ifunc::Implementations;
use crate::plan::{Function, FunctionId, Module, ModuleId, Plan, ProbeReport, Skipped};
use crate::spec::{FunctionSpec, ModuleSpec, ProbeSpec};
use crate::target::{Target, TargetFile};
use crate::types;
use demangle::NamePattern;
use functions::{Code, Found, Lookup};
use modules::Located;
use named::Named;
use site::{Site, Sites};

/// What is recorded of what the specs choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolveOptions {
    /// How returns are recorded.
    pub returns: ReturnsPolicy,
    /// Whether every process meets the probes, this one too (`-f`): then there are none on the returns of functions in files
    /// that it has mapped itself.
    pub everywhere: bool,
    /// Where in a function its probe goes.
    pub placement: PlacementPolicy,
    /// Whose registers are recorded, which a probe must then find as the caller left them.
    pub detail: DetailChoice,
    /// Whether the types of what they take and return are looked up, and how many bytes are copied of each string or struct.
    pub signatures: Option<u32>,
    /// More names.
    pub symbols: Vec<Symbols>,
    /// What no spec chooses.
    pub excludes: Vec<ProbeSpec>,
    /// What [`ProbeSpec::everything`] does not choose.
    pub everything_but: Vec<ProbeSpec>,
}

/// Which of the functions have detail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DetailChoice {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those that one of these names.
    Some(Vec<ProbeSpec>),
}

/// A file of names, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbols {
    /// The files whose functions it names; `None`: those of the same build, for text the program.
    pub module: Option<ModuleSpec>,
    /// Where the names are.
    pub path: PathBuf,
}

/// One that has been opened.
struct OpenSymbols {
    module: Option<ModuleSpec>,
    names: Rc<SymbolFile>,
}

/// Where in a function its probe goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlacementPolicy {
    /// At the cheapest instruction that sees the same calls (docs/placement.md).
    #[default]
    Cheapest,
    /// At its first instruction.
    Entry,
}

/// Chooses what will be probed. With several targets, a spec must choose something in one of them; its files in all of
/// them are probed.
///
/// A spec with an offset records calls only, and so does code that is not called (`_start`, cold parts of functions):
/// a return probe there would overwrite something else than a return address. What a pattern matches and cannot be
/// probed is skipped, with a reason.
///
/// # Errors
/// [`ResolveError`], for the first spec that chooses nothing.
pub fn resolve(specs: &[ProbeSpec], targets: &[Target], options: &ResolveOptions) -> Result<Plan, ResolveError> {
    if targets.is_empty() {
        return Err(ResolveError::NoTarget);
    }
    let mut planner = Planner::new(targets, options)?;
    for spec in specs {
        planner.add_spec(spec)?;
    }
    Ok(planner.finish())
}

/// [`DetailChoice`] for one file.
enum Chosen {
    None,
    All,
    Some(Named),
}

impl Chosen {
    fn names(&self, found: &Found) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(specs) => specs.names(found),
        }
    }
}

struct Planner<'a> {
    targets: &'a [Target],
    options: &'a ResolveOptions,
    symbols: Vec<OpenSymbols>,
    files: Vec<OpenFile>,
    /// (file, file offset of what was asked for) to the index in `plan.functions`.
    sites: HashMap<(FileId, u64), usize>,
    plan: Plan,
}

/// A file that specs have led to.
struct OpenFile {
    file: TargetFile,
    /// Index of the target that it was found in.
    target: usize,
    code: Code,
    implementations: OnceCell<Implementations>,
    module: Option<ModuleId>,
    functions: u32,
}

/// A pattern that finds fewer functions than that in a stripped program is told of those without a name.
const FEW: usize = 100;

/// What a spec means in one file.
#[derive(Default)]
struct Means {
    sites: Vec<Site>,
    /// Functions that have no site, and why.
    skipped: Vec<(String, ResolveError)>,
    /// Functions that the excludes keep away.
    excluded: usize,
    /// Functions without a name, where a pattern has found but few.
    nameless: usize,
}

impl<'a> Planner<'a> {
    fn new(targets: &'a [Target], options: &'a ResolveOptions) -> Result<Self, ResolveError> {
        let open = |symbols: &Symbols| {
            let names = Rc::new(SymbolFile::open(&symbols.path)?);
            Ok::<_, ResolveError>(OpenSymbols { module: symbols.module.clone(), names })
        };
        let symbols = options.symbols.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { targets, options, symbols, files: Vec::new(), sites: HashMap::new(), plan: Plan::default() })
    }

    fn add_spec(&mut self, spec: &ProbeSpec) -> Result<(), ResolveError> {
        let mut report = ProbeReport { spec: spec.text.clone(), ..ProbeReport::default() };
        let mut first_error = None;
        for index in self.locate(spec, &mut report, &mut first_error)? {
            match self.sites_in(index, spec) {
                Ok(sites) => self.add_sites(index, sites, &mut report, &mut first_error),
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        if report.functions.is_empty() {
            let excluded = (report.excluded > 0).then(|| ResolveError::AllExcluded { spec: spec.text.clone() });
            let nothing = || ResolveError::NothingMatches { spec: spec.text.clone(), target: self.labels() };
            return Err(excluded
                .or(first_error.filter(|error| !spec.is_wide() || !error.is_absence()))
                .unwrap_or_else(nothing));
        }
        self.plan.probes.push(report);
        Ok(())
    }

    /// Files of names that nothing came of: not what their giver thinks.
    fn unused_symbols(&self) -> Vec<PathBuf> {
        let is_used = |symbols: &&OpenSymbols| self.files.iter().any(|file| file.code.has_symbols(&symbols.names));
        let unused = self.symbols.iter().filter(|symbols| !is_used(symbols));
        unused.map(|symbols| symbols.names.path().to_owned()).collect()
    }

    fn labels(&self) -> String {
        self.targets.iter().map(Target::label).collect::<Vec<_>>().join(" or ")
    }

    /// The files that a spec means, over all targets; each file once. A file that a pattern matched and that cannot be
    /// read is skipped.
    fn locate(
        &mut self,
        spec: &ProbeSpec,
        report: &mut ProbeReport,
        first_error: &mut Option<ResolveError>,
    ) -> Result<Vec<usize>, ResolveError> {
        let mut indexes = Vec::new();
        for (target_index, target) in self.targets.iter().enumerate() {
            let files = match modules::locate(spec, target) {
                Ok(Located::One(file)) => vec![file],
                Ok(Located::Matching(files)) => files,
                Err(error) => {
                    first_error.get_or_insert(error);
                    continue;
                }
            };
            for file in files {
                let path = file.path.display().to_string();
                match self.open(file, target_index) {
                    Ok(index) if !indexes.contains(&index) => indexes.push(index),
                    Ok(_) => {}
                    Err(error) if spec.is_wide() => report.skipped.push(Skipped { symbol: path, why: error.clause() }),
                    Err(error) => drop(first_error.get_or_insert(error)),
                }
            }
        }
        match first_error.take() {
            Some(error) if indexes.is_empty() => Err(error),
            error => {
                *first_error = error;
                Ok(indexes)
            }
        }
    }

    fn open(&mut self, file: TargetFile, target: usize) -> Result<usize, ResolveError> {
        if let Some(known) = self.files.iter().position(|known| known.file.id == file.id) {
            return Ok(known);
        }
        let code = modules::open(&file, &self.targets[target], &self.symbols)?;
        self.files.push(OpenFile { file, target, code, implementations: OnceCell::new(), module: None, functions: 0 });
        Ok(self.files.len() - 1)
    }

    /// Adds what a spec means in one file.
    fn add_sites(
        &mut self,
        index: usize,
        found: Means,
        report: &mut ProbeReport,
        first_error: &mut Option<ResolveError>,
    ) {
        report.excluded += found.excluded;
        report.nameless += found.nameless;
        for (symbol, error) in found.skipped {
            report.skipped.push(Skipped { symbol, why: error.clause() });
            first_error.get_or_insert(error);
        }
        report.functions.extend(found.sites.into_iter().map(|site| self.add_site(index, site)));
        // Files of several targets may be one, and so may the sites of several names.
        report.functions.sort_unstable();
        report.functions.dedup();
    }

    /// The sites, and the functions that have none with the reason.
    fn sites_in(&self, index: usize, spec: &ProbeSpec) -> Result<Means, ResolveError> {
        let code = &self.files[index].code;
        let module = self.files[index].file.path.display().to_string();
        let mut finder = Sites::new(code, &module, spec, self.options);
        let (found, offset) = match &spec.function {
            FunctionSpec::Address(address) => {
                return Ok(Means {
                    sites: vec![finder.at_address(*address, self.options.detail == DetailChoice::All)?],
                    ..Means::default()
                });
            }
            FunctionSpec::Pattern(pattern) => (code.matching(&NamePattern::new(pattern)), 0),
            FunctionSpec::Named { name, offset } => {
                let lookup = code.find(name);
                if lookup.functions.is_empty() {
                    return Err(self.nothing_found(index, name, spec, lookup));
                }
                (lookup.functions, *offset)
            }
        };
        let mut all = Means::default();
        let excludes = self.excludes_for(index, spec);
        let with_detail = self.with_detail(index);
        let by_pattern = matches!(spec.function, FunctionSpec::Pattern(_));
        if by_pattern && spec.module == ModuleSpec::Executable && found.len() < FEW && code.is_stripped() {
            all.nameless = code.nameless().len() - found.iter().filter(|found| found.nameless).count();
        }
        for found in found {
            if excludes.names(&found) {
                all.excluded += 1;
                continue;
            }
            if by_pattern && site::is_part(&found.name) {
                let error = ResolveError::Part { function: found.name.clone(), module: module.clone() };
                all.skipped.push((found.name, error));
                continue;
            }
            for found in self.implementations(index, found, &mut all) {
                match finder.in_function(&found, offset, with_detail.names(&found)) {
                    Ok(site) => all.sites.push(site),
                    Err(error) => all.skipped.push((found.name, error)),
                }
            }
        }
        Ok(all)
    }

    /// The function itself, or, of one that is resolved at run time, what the target uses.
    fn implementations(&self, index: usize, found: Found, all: &mut Means) -> Vec<Found> {
        if !found.ifunc {
            return vec![found];
        }
        let OpenFile { file, code, target, implementations, .. } = &self.files[index];
        let choices = implementations.get_or_init(|| Implementations::of(&code.elf, file, &self.targets[*target]));
        let addresses = choices.get(found.address);
        if addresses.is_empty() {
            let (function, module) = (found.name.clone(), file.path.display().to_string());
            let mut near = code.near(&found.name);
            near.retain(|name| *name != found.name);
            all.skipped.push((found.name.clone(), ResolveError::Ifunc { function, module, near }));
        }
        addresses.into_iter().map(|address| found.implemented_at(address, code)).collect()
    }

    fn excludes_for(&self, index: usize, spec: &ProbeSpec) -> Named {
        let everything = *spec == ProbeSpec::everything();
        let also = self.options.everything_but.iter().filter(|_| everything);
        Named::new(self.options.excludes.iter().chain(also), &self.files[index].file)
    }

    /// What tells which functions of a file have detail.
    fn with_detail(&self, index: usize) -> Chosen {
        let file = &self.files[index].file;
        match &self.options.detail {
            DetailChoice::None => Chosen::None,
            DetailChoice::All => Chosen::All,
            DetailChoice::Some(specs) => Chosen::Some(Named::new(specs.iter(), file)),
        }
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
        let key = (file.file.id, site.asked_offset());
        let own = self.options.everywhere && file.code.is_own();
        let returns = returns::choose(&file.code, &site, self.options.returns, own);
        if let Some(known) = self.sites.get(&key).and_then(|&known| self.plan.functions.get_mut(known)) {
            site.add_names_to(known);
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
        self.plan.unused_symbols = self.unused_symbols();
        if let Some(string_max) = self.options.signatures {
            let root = self.targets.first().map_or(Path::new("/"), Target::root);
            let symbols: Vec<PathBuf> = self.options.symbols.iter().map(|symbols| symbols.path.clone()).collect();
            self.plan.untyped = types::annotate(&mut self.plan, string_max, root, &symbols);
        }
        self.plan
    }
}

fn new_module(id: ModuleId, file: &TargetFile, code: &Code) -> Module {
    let (path, open_path) = (file.path.clone(), file.open_path.clone());
    Module { id, path, open_path, build_id: code.elf.build_id(), is_go: code.is_go(), bases: Vec::new() }
}
