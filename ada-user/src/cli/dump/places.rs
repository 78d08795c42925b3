//! Where in the recorded functions an address is: `leaf+0x4`.
//!
//! Invariant: an address gets a place only where its process is known to have that function there; the manifest may say
//! anything.

use std::collections::BTreeMap;

use ada_format::manifest::Manifest;

use crate::cli::names;

/// The recorded functions by process and address.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By process: the address that a module's virtual address 0 has there, with the module.
    modules: BTreeMap<u32, Vec<(u64, u32)>>,
    /// By module and virtual address: length in bytes and name.
    functions: BTreeMap<(u32, u64), (u64, String)>,
}

impl Places {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let mut places = Self::default();
        for module in &manifest.modules {
            for (pid, base) in &module.bases {
                places.modules.entry(*pid).or_default().push((*base, module.module_id));
            }
        }
        for function in &manifest.functions {
            // The module's number is the upper half of the function's.
            let key = ((function.function_id >> 32) as u32, function.offset);
            places.functions.insert(key, (function.size, names::readable(function).into_owned()));
        }
        places
    }

    /// The function that has `address` in process `pid`, and how far into it that is.
    pub(super) fn of(&self, pid: u32, address: u64) -> Option<String> {
        self.modules.get(&pid)?.iter().find_map(|(base, module)| {
            let address = address.checked_sub(*base)?;
            let before = self.functions.range((*module, 0)..=(*module, address)).next_back();
            let ((_, start), (size, name)) = before?;
            let into = address - start;
            (into < *size).then(|| format!("{name}+{into:#x}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use ada_format::manifest::{Function, Module};

    use super::*;

    #[test]
    fn the_function_around_an_address() {
        let function = |module: u64, name: &str, offset, size| Function {
            function_id: module << 32 | offset,
            name: name.into(),
            offset,
            size,
            ..Function::default()
        };
        let module = |module_id, bases: &[(u32, u64)]| Module {
            module_id,
            bases: bases.iter().copied().collect(),
            ..Module::default()
        };
        let places = Places::new(&Manifest {
            modules: vec![module(0, &[(7, 0x1000), (8, 0x2000)]), module(1, &[(7, 0x9000)])],
            functions: vec![function(0, "f", 0x10, 8), function(0, "g", 0x18, 4), function(1, "h", 0x10, 0x10)],
            ..Manifest::default()
        });
        let of = |pid, address| places.of(pid, address).unwrap_or_default();
        assert_eq!([of(7, 0x1010), of(7, 0x1017), of(7, 0x1018)], ["f+0x0", "f+0x7", "g+0x0"]);
        assert_eq!([of(7, 0x101c), of(7, 0x100f), of(7, 0x901f), of(8, 0x2010)], ["", "", "h+0xf", "f+0x0"]);
        assert_eq!([of(8, 0x1010), of(9, 0x1010), of(8, 0x9010)], ["", "", ""]);
    }
}
