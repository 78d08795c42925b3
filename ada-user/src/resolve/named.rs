//! Which functions of a file are named by some specs: those that are excluded, those that have detail.
//!
//! Invariant: a function is looked at by all of its names, so that an alias cannot hide it.

use super::demangle::{NamePattern, Wanted};
use super::functions::Found;
use super::modules;
use crate::spec::{FunctionSpec, ProbeSpec};
use crate::target::TargetFile;

/// What specs name in one file.
#[derive(Debug, Default)]
pub(super) struct Named {
    wanted: Vec<Wanted>,
    /// Exact symbol names.
    symbols: Vec<String>,
    patterns: Vec<NamePattern>,
    addresses: Vec<u64>,
}

impl Named {
    /// Those of `specs` that mean `file`.
    pub(super) fn new<'a>(specs: impl Iterator<Item = &'a ProbeSpec>, file: &TargetFile) -> Self {
        let mut named = Self::default();
        for spec in specs.filter(|spec| modules::means(&spec.module, file)) {
            match &spec.function {
                FunctionSpec::Named { name, .. } => {
                    named.symbols.push(name.clone());
                    named.wanted.push(Wanted::new(name));
                }
                FunctionSpec::Pattern(pattern) => named.patterns.push(NamePattern::new(pattern)),
                FunctionSpec::Address(address) => named.addresses.push(*address),
            }
        }
        named
    }

    /// Whether a function is among them.
    pub(super) fn names(&self, found: &Found) -> bool {
        let mut names = std::iter::once(&found.name).chain(&found.aliases);
        let is_named = |name: &String| {
            self.symbols.contains(name)
                || self.wanted.iter().any(|wanted| wanted.matches(name))
                || self.patterns.iter().any(|pattern| pattern.matches(name))
        };
        self.addresses.contains(&found.address) || names.any(is_named)
    }
}
