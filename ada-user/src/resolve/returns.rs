//! How the returns of a function are recorded.
//!
//! A return probe puts the kernel's trampoline in the place of the return address. That is cheap, and harmless to code that
//! returns as it was called. But an unwinder that meets the trampoline knows nothing of it: an exception or a panic that
//! crosses the frame ends the program (measured on kernel 6.18: std::terminate). So wherever something may be thrown
//! through a function, its exits are probed instead, which costs more and changes nothing.

use super::functions::Code;
use super::site::{Entered, Site, is_part};
use crate::elf::{Machine, UnwindStart};
use crate::exits::{self, CodeMap, Exit, Exits};
use crate::plan::Returns;

/// What the user wants of returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReturnsPolicy {
    /// A return probe where nothing can be thrown through the function, else probes on its exits.
    #[default]
    Auto,
    /// Return probes everywhere.
    Probe,
    /// Probes on the exits everywhere.
    Exits,
    /// Calls only.
    Off,
}

/// Chooses for one site.
///
/// A return probe that this process met itself (`own`) would be pending in the very calls by which it detaches, which wait
/// until none is: seen to hang on 6.18.
pub(super) fn choose(code: &Code, site: &Site, policy: ReturnsPolicy, own: bool) -> Returns {
    if policy == ReturnsPolicy::Off {
        return Returns::NotRecorded("only calls were asked for");
    }
    match site.entered {
        Entered::Otherwise => Returns::NotRecorded("the return address is not on top of the stack there"),
        // Go moves its stacks, which a return probe does not survive.
        Entered::Called if policy != ReturnsPolicy::Exits && !code.is_go() && !own => choose_called(code, site, policy),
        Entered::Called | Entered::CalledAsIs => exits_of(find(code, site), code),
    }
}

fn choose_called(code: &Code, site: &Site, policy: ReturnsPolicy) -> Returns {
    if policy == ReturnsPolicy::Probe || !code.disturbs_returns() {
        return Returns::Probe;
    }
    match find(code, site) {
        // Nothing can be thrown through a function that calls nothing and ends in no jump.
        Ok(exits) if !exits.may_throw => Returns::Probe,
        exits => exits_of(exits, code),
    }
}

const UNKNOWN: &str = "its exits cannot be told for certain, and a return probe would endanger the target";
const OTHER_MACHINE: &str = "exits are only found in x86_64 code, and a return probe would endanger the target";

/// Probes on each way out; or why there can be none.
fn exits_of(exits: Result<Exits, &'static str>, code: &Code) -> Returns {
    let offsets = exits.and_then(|exits| {
        let in_file = |exit: &Exit| Some(Exit { at: code.elf.code_offset(exit.at)?, ..*exit });
        exits.sites.iter().map(in_file).collect::<Option<Vec<Exit>>>().ok_or(UNKNOWN)
    });
    offsets.map_or_else(Returns::NotRecorded, Returns::Exits)
}

fn find(code: &Code, site: &Site) -> Result<Exits, &'static str> {
    if code.elf.machine() != Machine::X86_64 {
        return Err(OTHER_MACHINE);
    }
    exits::find(site.address..site.address.saturating_add(site.size), code).map_err(|_| UNKNOWN)
}

impl CodeMap for Code {
    fn code(&self, address: u64, size: u64) -> Option<&[u8]> {
        self.elf.code(address, size)
    }

    fn starts_function(&self, address: u64) -> bool {
        // A part that is entered before anything was pushed looks like a function to the unwind table; its name tells.
        match (self.elf.unwind_start(address), self.start_named(address)) {
            (_, Some(name)) => !is_part(name),
            (UnwindStart::Function, None) => true,
            (UnwindStart::Part | UnwindStart::Unknown, None) => false,
        }
    }

    fn starts_anything(&self, address: u64) -> bool {
        self.elf.unwind_start(address) != UnwindStart::Unknown || self.start_named(address).is_some()
    }
}
