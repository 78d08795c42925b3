//! How the returns of a function are recorded.
//!
//! A return probe puts the kernel's trampoline in the place of the return address. That is cheap, and harmless to code that
//! returns as it was called. But an unwinder that meets the trampoline knows nothing of it: an exception or a panic that
//! crosses the frame ends the program (measured on kernel 6.18: std::terminate). So wherever something may be thrown
//! through a function, its exits are probed instead, which costs more and changes nothing.

use super::functions::Code;
use super::site::{Site, is_part};
use crate::elf::{Machine, UnwindStart};
use crate::exits::{self, CodeMap};
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
pub(super) fn choose(code: &Code, site: &Site, policy: ReturnsPolicy) -> Returns {
    if policy == ReturnsPolicy::Off {
        return Returns::NotRecorded("only calls were asked for");
    }
    if !site.called {
        return Returns::NotRecorded("the return address is not on top of the stack there");
    }
    match policy {
        ReturnsPolicy::Exits => exits_of(code, site),
        _ if code.elf.is_go() => Returns::NotRecorded("Go moves its stacks, which a return probe does not survive"),
        ReturnsPolicy::Auto if code.disturbs_returns() => exits_of(code, site),
        _ => Returns::Probe,
    }
}

const UNKNOWN: &str =
    "its exits cannot be told for certain, and an exception through a return probe would end the target";
const OTHER_MACHINE: &str =
    "exits are only found in x86_64 code, and an exception through a return probe would end the target";

fn exits_of(code: &Code, site: &Site) -> Returns {
    if code.elf.machine() != Machine::X86_64 {
        return Returns::NotRecorded(OTHER_MACHINE);
    }
    match exits::find(site.address..site.address.saturating_add(site.size), code) {
        // Nothing can be thrown through a function that calls nothing and ends in no jump.
        Ok(exits) if !exits.may_throw => Returns::Probe,
        Ok(exits) => {
            let offsets: Option<Vec<u64>> = exits.sites.iter().map(|site| code.elf.code_offset(*site)).collect();
            offsets.map_or(Returns::NotRecorded(UNKNOWN), Returns::Exits)
        }
        Err(_) => Returns::NotRecorded(UNKNOWN),
    }
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
