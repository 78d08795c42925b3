//! From the arguments that choose functions to specs and the options that they are resolved with.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use ada_user::{
    plan::Plan,
    resolve::{DEFAULT_EXCLUDES, PlacementPolicy, ResolveOptions, ReturnsPolicy, Symbols},
    spec::{ModuleSpec, ProbeSpec, SpecError},
};
use anyhow::Result;

use super::args::{ChoiceArgs, Place, ReturnsHow};
use super::summary::{count, plural};
use super::{
    detail::{self, DetailArgs},
    tell,
};

/// The specs that `texts` and `args` ask for.
pub(super) fn specs(texts: &[String], args: &ChoiceArgs) -> Result<Vec<ProbeSpec>, SpecError> {
    let everything = args.all.then(ProbeSpec::everything);
    texts.iter().map(|text| text.parse()).chain(everything.map(Ok)).collect()
}

/// How they are resolved.
pub(super) fn options(args: &ChoiceArgs, detail: Option<&DetailArgs>) -> Result<ResolveOptions> {
    let excludes = args.exclude.iter().map(|text| ProbeSpec::parse_anywhere(text)).collect::<Result<_, _>>()?;
    let defaults = DEFAULT_EXCLUDES.iter().filter(|_| !args.no_default_excludes);
    let everything_but = defaults.map(|(text, _)| text.parse()).collect::<Result<_, _>>()?;
    let returns = match args.returns {
        ReturnsHow::Auto => ReturnsPolicy::Auto,
        ReturnsHow::Uretprobe => ReturnsPolicy::Probe,
        ReturnsHow::Ret => ReturnsPolicy::Exits,
    };
    let placement = match args.placement {
        Place::Cheapest => PlacementPolicy::Cheapest,
        Place::Entry => PlacementPolicy::Entry,
    };
    let symbols = args.symbols.iter().map(|text| symbols(text)).collect::<Result<_>>()?;
    Ok(ResolveOptions {
        returns,
        everywhere: false,
        placement,
        detail: detail::choice(&args.detail, detail)?,
        signatures: detail.filter(|detail| detail.args).map(|detail| detail.string_max),
        symbols,
        excludes,
        everything_but,
    })
}

/// A word about files of names that nothing came of.
pub(super) fn tell_unused_symbols(plan: &Plan) {
    for path in &plan.unused_symbols {
        let path = path.display();
        tell(&format!(
            "ada-trace: the names in {path} belong to none of the probed files; write LIB={path} to say which\n"
        ));
    }
}

/// A word about functions that a pattern might mean and that have no name.
pub(super) fn tell_nameless(plan: &Plan) {
    for probe in plan.probes.iter().filter(|probe| probe.nameless > 0) {
        let (named, nameless) = (plural(probe.functions.len() as u64, "function"), count(probe.nameless as u64));
        tell(&format!(
            "ada-trace: '{}' means {named}; {nameless} others have lost their names to strip: -e 'exe:sub_*' records \
             them under their addresses\n",
            probe.spec
        ));
    }
}

/// `LIB=FILE`, or `FILE`, which may contain an equals sign after a slash.
fn symbols(text: &OsStr) -> Result<Symbols> {
    let bytes = text.as_bytes();
    let split = bytes.iter().position(|byte| *byte == b'=').filter(|_| !Path::new(text).exists());
    let (module, file) = match split.map(|at| (&bytes[..at], &bytes[at + 1..])) {
        Some((module, file)) => (Some(module_spec(module)?), OsStr::from_bytes(file)),
        None => (None, text),
    };
    Ok(Symbols { module, path: PathBuf::from(file) })
}

/// What stands before the colon of a spec.
fn module_spec(module: &[u8]) -> Result<ModuleSpec> {
    let mut text = OsString::from(OsStr::from_bytes(module));
    text.push(":*");
    let spec: ProbeSpec = text.to_string_lossy().parse()?;
    Ok(spec.module)
}
