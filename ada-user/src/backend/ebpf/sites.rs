//! Which probes a plan comes to: by file, by what they are there for, and by what the program behind them has to do.
//!
//! Invariant: every probe of a function belongs to one kind and one class.

use ada_format::wire::{cookie, names};

use crate::exits::Leaves;
use crate::plan::{Function, Module, Plan, Returns};

/// `OVERLAYFS_SUPER_MAGIC` in linux/magic.h.
const OVERLAYFS: u64 = 0x794C_7630;

/// What a probe is there for; in the order of attaching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Return,
    Exit,
    Entry,
}

/// What the program behind a probe has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Record calls and returns, with their registers and stack if the cookie says so.
    Plain,
    /// The same on the stacks of goroutines.
    Go,
    /// Copy memory, too.
    Capturing,
}

impl Class {
    /// That of probes at which nothing but the event is recorded.
    fn without_detail(module: &Module) -> Self {
        if module.is_go { Self::Go } else { Self::Plain }
    }

    fn of(function: &Function, module: &Module) -> Self {
        match function.capture {
            // Where the registers hold something else, nothing is copied.
            _ if module.is_go => Self::Go,
            Some(_) => Self::Capturing,
            None => Self::Plain,
        }
    }
}

/// In the order of attaching.
pub(super) const KINDS: [Kind; 3] = [Kind::Return, Kind::Exit, Kind::Entry];

pub(super) const CLASSES: [Class; 3] = [Class::Plain, Class::Go, Class::Capturing];

/// The name of the program behind such probes; none if there are no such probes.
pub(super) fn program_name(kind: Kind, class: Class) -> Option<&'static str> {
    match (kind, class) {
        (Kind::Entry, Class::Plain) => Some(names::ENTRY),
        (Kind::Entry, Class::Go) => Some(names::GO_ENTRY),
        (Kind::Entry, Class::Capturing) => Some(names::ENTRY_CAPTURING),
        (Kind::Return, Class::Plain) => Some(names::RETURN),
        // Go's functions never have return probes.
        (Kind::Return, Class::Go) => None,
        (Kind::Return, Class::Capturing) => Some(names::RETURN_CAPTURING),
        (Kind::Exit, Class::Plain) => Some(names::EXIT),
        (Kind::Exit, Class::Go) => Some(names::GO_EXIT),
        (Kind::Exit, Class::Capturing) => Some(names::EXIT_CAPTURING),
    }
}

/// Number of probes that `plan` needs in each process.
pub(super) fn count(plan: &Plan) -> u64 {
    let groups = KINDS.into_iter().flat_map(|kind| CLASSES.map(|class| (kind, class)));
    let of = |module, (kind, class)| sites(plan, module, kind, class).0.len() as u64;
    groups.map(|group| plan.modules.iter().map(|module| of(module, group)).sum::<u64>()).sum()
}

/// Whether process `pid` has the same file under another identity: containers made of one image see its files through
/// mounts of their own, while the kernel's probes sit on the file below all of them. One of the two must do.
pub(super) fn is_elsewhere(plan: &Plan, module: &Module, pid: u32) -> bool {
    if pid == 0 {
        return is_seen_twice(plan, module);
    }
    let has = |module: &Module| module.bases.iter().any(|(owner, _)| *owner == pid);
    let same = |other: &&Module| other.id != module.id && other.build_id.is_some() && other.build_id == module.build_id;
    !has(module) && plan.modules.iter().filter(same).any(has)
}

/// Whether an earlier module is the same file, seen through another overlay mount: containers of one image again, for
/// probes in every process. Elsewhere, another file is another file, also if it is a copy.
fn is_seen_twice(plan: &Plan, module: &Module) -> bool {
    let same = |other: &&Module| other.id < module.id && other.build_id.is_some() && other.build_id == module.build_id;
    is_on_overlay(module) && plan.modules.iter().filter(same).any(is_on_overlay)
}

fn is_on_overlay(module: &Module) -> bool {
    rustix::fs::statfs(&module.open_path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(OVERLAYFS))
}

/// File offsets and cookies of the probes of one kind and class in `module`.
pub(super) fn sites(plan: &Plan, module: &Module, kind: Kind, class: Class) -> (Vec<u64>, Vec<u64>) {
    let mut sites = (Vec::new(), Vec::new());
    let mut add = |function: &Function, offset, flags| {
        sites.0.push(offset);
        sites.1.push(function.id.0 | flags);
    };
    for function in plan.functions.iter().filter(|function| function.id.module() == module.id) {
        let is_of_class = Class::of(function, module) == class;
        let detail = if function.detail { cookie::DETAIL } else { 0 };
        match (kind, &function.returns) {
            (Kind::Entry, _) if is_of_class => {
                let check = if function.stack_check { cookie::STACK_CHECK } else { 0 };
                add(function, function.probe_offset, detail | check);
            }
            (Kind::Return, Returns::Probe) if is_of_class => add(function, function.probe_offset, detail),
            (Kind::Exit, Returns::Exits(exits)) => {
                for exit in exits {
                    match exit.by {
                        Leaves::ByReturn if is_of_class => add(function, exit.at, detail),
                        // There is nothing to be seen in the registers yet.
                        Leaves::ByJump if class == Class::without_detail(module) => add(function, exit.at, 0),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    sites
}
