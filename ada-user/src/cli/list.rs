//! `ada-trace list SPEC… (-p PID | PATH)`: what would be probed, without probing it.
//!
//! Invariant: what is listed is what a recording with the same specs and target would plan.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ada_user::placement::Price;
use ada_user::plan::{Function, Plan, Returns};
use ada_user::resolve::{self, DEFAULT_EXCLUDES};
use ada_user::target::Target;
use anyhow::{Result, bail};
use serde_json::json;

use super::args::{Format, ListArgs};
use super::choice;
use super::names::printable;
use super::table::Table;

/// Prints what `args` ask for.
pub(crate) fn run(args: &ListArgs) -> Result<ExitCode> {
    if args.default_excludes {
        io::stdout().write_all(default_excludes().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let Request { specs, target } = Request::new(args)?;
    let specs = choice::specs(specs, &args.choice)?;
    let plan = resolve::resolve(&specs, &[target.open()?], &choice::options(&args.choice, None)?)?;
    choice::tell_unused_symbols(&plan);
    choice::tell_nameless(&plan);
    let text = match args.format {
        Format::Text => text(&plan),
        Format::Jsonl => jsonl(&plan),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What `--all` leaves out.
fn default_excludes() -> String {
    let mut table = Table::new(&[("EXCLUDED BY --all", false), ("WHY", false)]);
    for (spec, why) in DEFAULT_EXCLUDES {
        table.row([spec.to_owned(), why.to_owned()]);
    }
    table.to_string()
}

/// What is looked up, and where.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    specs: &'a [String],
    target: Place,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Process(u32),
    File(PathBuf),
    /// Neither: libraries as the loader knows them.
    System,
}

impl<'a> Request<'a> {
    /// Tells a program's path from the specs before it.
    fn new(args: &'a ListArgs) -> Result<Self> {
        let (specs, trailing) = match args.spec.split_last() {
            Some((last, specs)) if is_path(last) => (specs, Some(PathBuf::from(last))),
            _ => (args.spec.as_slice(), None),
        };
        let target = match (args.pid, &args.path, trailing) {
            (Some(pid), None, None) => Place::Process(pid),
            (None, Some(path), None) => Place::File(path.clone()),
            (None, None, Some(path)) => Place::File(path),
            (None, None, None) => Place::System,
            (_, _, Some(path)) => bail!("{} is a second target: give one program or one process", path.display()),
            (Some(_), Some(_), None) => bail!("-p and --path are two targets: give one of them"),
        };
        if specs.is_empty() && !args.choice.all {
            bail!("there is no SPEC to look up: write one, such as exe:main or 'libc:mem*', or use --all");
        }
        Ok(Self { specs, target })
    }
}

/// A spec has a colon. A path with one can be given with --path.
fn is_path(word: &str) -> bool {
    !word.contains(':') && (word.contains('/') || Path::new(word).is_file())
}

impl Place {
    fn open(&self) -> Result<Target> {
        Ok(match self {
            Self::Process(pid) => Target::from_pid(*pid)?,
            Self::File(path) => Target::from_file(path)?,
            Self::System => Target::from_system(),
        })
    }
}

/// Where a probe goes.
struct Site<'a> {
    function: &'a Function,
    module: &'a Path,
    /// Bytes from the function's start, as asked for.
    into: u64,
}

impl Site<'_> {
    fn name(&self) -> String {
        let name = printable(self.function.demangled.as_ref().unwrap_or(&self.function.name)).into_owned();
        if self.into == 0 { name } else { format!("{name}+{:#x}", self.into) }
    }

    /// The name, its version, and its other names.
    fn names(&self) -> String {
        let version = self.function.version.as_ref().filter(|version| !self.function.name.ends_with(version.as_str()));
        let name = self.name() + version.map_or("", String::as_str);
        match self.function.aliases.as_slice() {
            [] => name,
            [alias] => format!("{name} = {}", printable(alias)),
            [alias, others @ ..] => format!("{name} = {} (+{})", printable(alias), others.len()),
        }
    }

    /// Virtual address of the function, or of what was asked for in it.
    fn address(&self) -> u64 {
        self.function.address.wrapping_add(self.into)
    }

    /// Where the probe is, seen from there.
    fn site(&self) -> String {
        format!("+{:#x}", self.function.moved)
    }
}

fn sites(plan: &Plan) -> impl Iterator<Item = Site<'_>> {
    plan.functions.iter().filter_map(|function| {
        let module = plan.modules.iter().find(|module| module.id == function.id.module())?;
        let into = function.probe_offset.saturating_sub(function.offset).saturating_sub(function.moved);
        Some(Site { function, module: &module.path, into })
    })
}

fn text(plan: &Plan) -> String {
    let mut table = Table::new(&[
        ("MODULE", false),
        ("FUNCTION", false),
        ("ADDRESS", true),
        ("FILE OFFSET", true),
        ("SIZE", true),
        ("SITE", true),
        ("INSTRUCTION", false),
        ("PRICE", false),
        ("RETURNS", false),
    ]);
    for site in sites(plan) {
        table.row([
            printable(&site.module.to_string_lossy()).into_owned(),
            site.names(),
            format!("{:#x}", site.address()),
            format!("{:#x}", site.function.probe_offset),
            if site.function.size == 0 { "?".to_owned() } else { site.function.size.to_string() },
            site.site(),
            site.function.first_instruction.clone(),
            site.function.price.name().to_owned(),
            returns(&site.function.returns),
        ]);
    }
    let skipped = plan.probes.iter().flat_map(|probe| probe.skipped.iter().map(move |skipped| (probe, skipped)));
    let lines = skipped.map(|(probe, skipped)| {
        format!("skipped by {}: {} ({})\n", printable(&probe.spec), printable(&skipped.symbol), printable(&skipped.why))
    });
    lines.fold(table.to_string(), |text, line| text + &line) + &shares(plan)
}

/// How many of the functions of each file have a cheap site, where there are several.
fn shares(plan: &Plan) -> String {
    let mut text = String::new();
    for module in &plan.modules {
        let of_module = || plan.functions.iter().filter(|function| function.id.module() == module.id);
        let count = of_module().count();
        if count < 2 {
            continue;
        }
        let share = |price: fn(&Function) -> Price| {
            let cheap = of_module().filter(|function| price(function).is_cheap()).count();
            format!("{:.1} %", 100.0 * cheap as f64 / count as f64)
        };
        let (placed, first) = (share(|function| function.price), share(|function| function.entry_price));
        let path = module.path.to_string_lossy();
        let _ = writeln!(
            text,
            "{}: {placed} of {count} functions at a cheap site ({first} at the first instruction)",
            printable(&path)
        );
    }
    text
}

/// How returns will be recorded.
fn returns(returns: &Returns) -> String {
    match returns {
        Returns::Probe => "return probe".to_owned(),
        Returns::Exits(offsets) if offsets.len() == 1 => "1 exit".to_owned(),
        Returns::Exits(offsets) => format!("{} exits", offsets.len()),
        Returns::NotRecorded(why) => format!("no: {why}"),
    }
}

/// File offsets of the probes on its exits.
fn exits(returns: &Returns) -> Vec<u64> {
    match returns {
        Returns::Exits(exits) => exits.iter().map(|exit| exit.at).collect(),
        Returns::Probe | Returns::NotRecorded(_) => Vec::new(),
    }
}

fn jsonl(plan: &Plan) -> String {
    let of_site = |site: Site<'_>| {
        let function = site.function;
        let bases = plan.modules.iter().filter(|module| module.id == function.id.module());
        let loaded = bases.flat_map(|module| &module.bases).map(|(_, base)| base.wrapping_add(site.address()));
        json!({
            "module": site.module.to_string_lossy(),
            "function": function.name,
            "version": function.version,
            "aliases": function.aliases,
            "demangled": function.demangled,
            "address": site.address(),
            "file_offset": function.probe_offset,
            "size": function.size,
            "offset_in_function": site.into,
            "site": function.moved,
            "instruction": function.first_instruction,
            "price": function.price.name(),
            "entry_price": function.entry_price.name(),
            "returns": function.returns.are_recorded(),
            "how_returns": returns(&function.returns),
            "exits": exits(&function.returns),
            "loaded_at": loaded.collect::<Vec<_>>(),
        })
    };
    let skipped = plan.probes.iter().flat_map(|probe| probe.skipped.iter().map(move |skipped| (probe, skipped)));
    let skipped =
        skipped.map(|(probe, skipped)| json!({ "spec": probe.spec, "skipped": skipped.symbol, "why": skipped.why }));
    let objects = sites(plan).map(of_site).chain(skipped);
    objects.fold(String::new(), |text, object| text + &object.to_string() + "\n")
}

#[cfg(test)]
mod tests {
    use ada_user::plan::{FunctionId, Module, ModuleId, ProbeReport, Skipped};

    use super::super::args::ChoiceArgs;
    use super::*;
    use ada_user::exits::{Exit, Leaves};

    fn args(spec: &[&str], pid: Option<u32>, path: Option<&str>) -> ListArgs {
        let spec = spec.iter().copied().map(String::from).collect();
        ListArgs {
            spec,
            choice: ChoiceArgs::default(),
            default_excludes: false,
            pid,
            path: path.map(PathBuf::from),
            format: Format::Text,
        }
    }

    #[test]
    fn a_path_ends_the_specs() {
        let target = |spec: &[&str], pid, path| {
            let args = args(spec, pid, path);
            Request::new(&args).map(|request| (request.specs.len(), request.target)).map_err(|error| error.to_string())
        };
        let file = |path: &str| Place::File(PathBuf::from(path));
        assert_eq!(target(&["libc:malloc"], None, None), Ok((1, Place::System)));
        assert_eq!(target(&["libc:malloc", "exe:f"], Some(7), None), Ok((2, Place::Process(7))));
        assert_eq!(target(&["exe:f", "./app"], None, None), Ok((1, file("./app"))));
        assert_eq!(target(&["exe:f", "Cargo.toml"], None, None), Ok((1, file("Cargo.toml"))));
        assert_eq!(target(&["exe:f"], None, Some("a:b")), Ok((1, file("a:b"))));
        assert_eq!(target(&["/lib/x.so:f"], None, None), Ok((1, Place::System)));
        assert_eq!(target(&["exe:f", "malloc"], None, None), Ok((2, Place::System)));
        assert!(target(&["exe:f", "./app"], Some(7), None).unwrap_err().contains("./app"));
        assert!(target(&["exe:f", "./app"], None, Some("x")).unwrap_err().contains("./app"));
        assert!(target(&["./app"], None, None).unwrap_err().contains("SPEC"));
    }

    fn plan() -> Plan {
        let id = FunctionId::new(ModuleId(0), 0);
        let function = Function {
            id,
            name: "_Z1fv".into(),
            demangled: Some("f()".into()),
            offset: 0x1000,
            address: 0x40_1000,
            size: 0,
            probe_offset: 0x1004,
            first_instruction: "push %rbp".into(),
            returns: Returns::NotRecorded("no need"),
            ..Function::default()
        };
        let whole = Function {
            id: FunctionId::new(ModuleId(0), 1),
            aliases: vec!["g".into()],
            moved: 4,
            price: Price::Emulated,
            entry_price: Price::Stepped,
            size: 32,
            returns: Returns::Exits(vec![Exit { at: 0x101f, by: Leaves::ByReturn }]),
            ..function.clone()
        };
        let module = Module {
            id: ModuleId(0),
            path: "/opt/app".into(),
            open_path: "/opt/app".into(),
            bases: vec![(7, 0x1_0000)],
            ..Module::default()
        };
        let skipped = vec![Skipped { symbol: "g".into(), why: "no code".into() }];
        Plan {
            modules: vec![module],
            functions: vec![function, whole],
            probes: vec![ProbeReport { spec: "exe:f".into(), functions: vec![id], skipped, ..ProbeReport::default() }],
            ..Plan::default()
        }
    }

    #[test]
    fn text_for_people() {
        assert_eq!(
            text(&plan()),
            "\
MODULE    FUNCTION   ADDRESS  FILE OFFSET  SIZE  SITE  INSTRUCTION  PRICE     RETURNS
/opt/app  f()+0x4   0x401004       0x1004     ?  +0x0  push %rbp    unknown   no: no need
/opt/app  f() = g   0x401000       0x1004    32  +0x4  push %rbp    emulated  1 exit
skipped by exe:f: g (no code)
/opt/app: 50.0 % of 2 functions at a cheap site (0.0 % at the first instruction)
"
        );
    }

    #[test]
    fn jsonl_for_programs() {
        let text = jsonl(&plan());
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!((&lines[0]["address"], &lines[0]["loaded_at"]), (&0x40_1004.into(), &json!([0x41_1004])));
        assert_eq!((&lines[1]["returns"], &lines[1]["demangled"]), (&true.into(), &"f()".into()));
        assert_eq!((&lines[1]["how_returns"], &lines[1]["exits"]), (&"1 exit".into(), &json!([0x101f])));
        assert_eq!(lines[2]["skipped"], "g");
    }
}
