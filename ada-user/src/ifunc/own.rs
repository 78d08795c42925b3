//! What the loader chose in this process: for the same file, every process on a machine gets the same choice.
//!
//! Invariant: only a file that this process has loaded is asked for, and no code runs that the loader would not run.

use std::ffi::CString;

use super::{Choices, choices as read_choices, exports};
use crate::elf::{Elf, FileId, Mapping};
use crate::target::Target;

/// What was chosen here; nothing if the file is not loaded.
pub(super) fn choices(elf: &Elf, id: FileId) -> Choices {
    let pid = std::process::id();
    let Ok(own) = Target::from_pid(pid) else {
        return Choices::new();
    };
    let Some(file) = own.files().iter().find(|file| file.id == id) else {
        return Choices::new();
    };
    let mut choices = read_choices(elf, id, &own, pid);
    for (name, exports) in exports(elf) {
        let Some(export) = exports.iter().find(|export| export.default) else { continue };
        if let Some(address) = look_up(elf, &file.mappings, name).filter(|&address| address != export.resolver) {
            choices.entry(export.resolver).or_default().insert(address);
        }
    }
    choices
}

/// Where the loader finds a function of this file; this also tells of those that nothing here calls.
fn look_up(elf: &Elf, mappings: &[Mapping], name: String) -> Option<u64> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is a C string. The loader may call the resolver of a function of this name, which is what it
    // does when a program that imports it starts.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    elf.unload(address as u64, mappings)
}
