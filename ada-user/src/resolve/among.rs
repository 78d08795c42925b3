//! Which functions of a plan a spec means: for triggers, which choose among what is recorded anyway.
//!
//! Invariant: nothing is opened; names and paths alone decide, so it can be asked while recording.

use std::path::{Path, PathBuf};

use super::demangle::{NamePattern, Wanted};
use crate::loader::{match_name, stems};
use crate::plan::{Function, FunctionId, Module, Plan};
use crate::spec::{FunctionSpec, ModuleSpec, ProbeSpec};

/// The functions of `plan` that `spec` means, in the order of their ids. `programs` are the paths of the executables of the
/// recorded processes, which `exe` stands for. Of a spec's offset nothing is known here: it is passed over.
#[must_use]
pub fn among(spec: &ProbeSpec, plan: &Plan, programs: &[PathBuf]) -> Vec<FunctionId> {
    let names = Names::of(&spec.function);
    let meant = |module: &&Module| means(&spec.module, &module.path, programs);
    let modules: Vec<_> = plan.modules.iter().filter(meant).map(|module| module.id).collect();
    let chosen = |function: &&Function| modules.contains(&function.id.module()) && names.include(function);
    plan.functions.iter().filter(chosen).map(|function| function.id).collect()
}

fn means(module: &ModuleSpec, path: &Path, programs: &[PathBuf]) -> bool {
    let is_program = programs.iter().any(|program| program == path);
    let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match module {
        ModuleSpec::Executable => is_program,
        ModuleSpec::Path(wanted) => path == wanted || wanted.canonicalize().is_ok_and(|wanted| wanted == path),
        ModuleSpec::Library(wanted) => match_name(&file_name, wanted).is_some(),
        ModuleSpec::Pattern(pattern) if pattern.text().contains('/') => pattern.matches(&path.to_string_lossy()),
        ModuleSpec::Pattern(pattern) => {
            let by_stem = || stems(&file_name).iter().any(|stem| pattern.matches(stem));
            pattern.matches(&file_name) || by_stem() || is_program && pattern.matches("exe")
        }
    }
}

/// A spec's function part, ready to be compared.
enum Names<'a> {
    Named(&'a str, Wanted),
    Pattern(NamePattern),
    Address(u64),
}

impl<'a> Names<'a> {
    fn of(function: &'a FunctionSpec) -> Self {
        match function {
            FunctionSpec::Named { name, .. } => Self::Named(name, Wanted::new(name)),
            FunctionSpec::Pattern(pattern) => Self::Pattern(NamePattern::new(pattern)),
            FunctionSpec::Address(address) => Self::Address(*address),
        }
    }

    /// By any of its names, so that an alias cannot hide it.
    fn include(&self, function: &Function) -> bool {
        let mut names = std::iter::once(&function.name).chain(&function.aliases);
        match self {
            Self::Named(name, wanted) => names.any(|of| of == name || wanted.matches(of)),
            Self::Pattern(pattern) => names.any(|of| pattern.matches(of)),
            Self::Address(address) => function.address == *address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ModuleId;

    fn plan() -> Plan {
        let module = |id, path: &str| Module { id: ModuleId(id), path: path.into(), ..Module::default() };
        let function = |module, index, name: &str, aliases: &[&str], address| Function {
            id: FunctionId::new(ModuleId(module), index),
            name: name.to_owned(),
            aliases: aliases.iter().map(ToString::to_string).collect(),
            address,
            ..Function::default()
        };
        Plan {
            modules: vec![module(0, "/usr/bin/app"), module(1, "/usr/lib/libc.so.6")],
            functions: vec![
                function(0, 0, "main", &[], 0x1139),
                function(0, 1, "_ZN2ns1fEi", &[], 0x1200),
                function(1, 0, "open64", &["open", "__open"], 0x10),
                function(1, 1, "read", &[], 0x20),
            ],
            ..Plan::default()
        }
    }

    #[test]
    fn by_module_and_any_name() {
        let plan = plan();
        let table: [(&str, &[(u32, u32)]); 9] = [
            ("exe:main", &[(0, 0)]),
            ("exe:0x1139", &[(0, 0)]),
            ("app:ns::f", &[(0, 1)]),
            ("/usr/bin/app:*", &[(0, 0), (0, 1)]),
            ("libc:open", &[(1, 0)]),
            ("libc.so.6:/^(open|read)/", &[(1, 0), (1, 1)]),
            ("*:*", &[(0, 0), (0, 1), (1, 0), (1, 1)]),
            ("libc:main", &[]),
            ("libm:read", &[]),
        ];
        for (text, expected) in table {
            let found = among(&text.parse().unwrap(), &plan, &["/usr/bin/app".into()]);
            let expected: Vec<_> = expected.iter().map(|(m, f)| FunctionId::new(ModuleId(*m), *f)).collect();
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(among(&"exe:main".parse().unwrap(), &plan, &[]), []);
    }
}
