//! Prototypes of functions from DWARF: in the traced file, in its separate debug file, and in what dwz made of that.
//!
//! Invariant: only the units that hold a wanted function are read beyond their heads; what is damaged is not there.

mod die;
mod location;
mod name;
mod prototype;
mod resolve;
mod unit;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use gimli::{RunTimeEndian, SectionId};

use self::die::{Die, Source};
use self::resolve::Cache;
use self::unit::Units;
use super::model::Prototype;
use crate::elf::Elf;

/// Debug information in memory.
type Bytes = gimli::EndianRcSlice<RunTimeEndian>;

/// The sections that say something about types and functions.
const SECTIONS: [SectionId; 12] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugLoc,
    SectionId::DebugLocLists,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
    SectionId::DebugTypes,
];

/// The debug information of one file.
pub(super) struct DebugInfo {
    main: Units,
    supplement: Option<Units>,
    /// Begin, end and unit of the code of each unit, by begin.
    ranges: Vec<(u64, u64, usize)>,
    types: RefCell<Cache>,
}

impl DebugInfo {
    /// Reads the heads of all units of `elf`; `None` if it has none.
    pub(super) fn open(elf: &Elf, root: &Path) -> Option<Self> {
        if !elf.has_debug_info() {
            return None;
        }
        let shared = elf.open_supplement(root).map(|file| load(&file));
        let main = load(elf).borrow_with_sup(shared.as_ref(), Clone::clone);
        let main = Units::new(main, Source::Main);
        let supplement = shared.map(|sections| Units::new(sections.borrow(Clone::clone), Source::Supplement));
        let mut ranges = main.code_ranges();
        ranges.sort_unstable();
        Some(Self { main, supplement, ranges, types: RefCell::new(HashMap::new()) })
    }

    /// What the function at `address` takes and gives back.
    pub(super) fn prototype(&self, address: u64, linkage_name: &str) -> Option<Prototype> {
        let end = self.ranges.partition_point(|(begin, ..)| *begin <= address);
        let before = self.ranges.get(..end)?.iter().rev();
        // Units overlap only where something is wrong.
        let units: Vec<usize> = before.take(8).filter(|(_, end, _)| address < *end).map(|(.., unit)| *unit).collect();
        let by_address = units.iter().find_map(|unit| self.main.function_at(*unit, address));
        let by_name = || units.iter().find_map(|unit| self.named(*unit, linkage_name));
        self.prototype_of(by_address.or_else(by_name)?, address)
    }

    fn named(&self, unit: usize, linkage_name: &str) -> Option<Die> {
        self.main.functions(unit).into_iter().find(|die| self.linkage_name(*die).as_deref() == Some(linkage_name))
    }
}

fn load(elf: &Elf) -> gimli::DwarfSections<Bytes> {
    let endian = if elf.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let section = |id: SectionId| {
        let bytes = if SECTIONS.contains(&id) { elf.debug_section(id.name()) } else { Vec::new() };
        Ok::<Bytes, std::convert::Infallible>(gimli::EndianReader::new(Rc::from(bytes), endian))
    };
    let Ok(sections) = gimli::DwarfSections::load(section);
    sections
}
