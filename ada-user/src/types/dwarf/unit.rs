//! The units of one file of debug information, each read when it is first asked for.
//!
//! Invariant: a unit's position in [`Units`] never changes, so that a [`Die`] stays good.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use gimli::{AttributeValue, DebugTypeSignature, UnitHeader, UnitOffset, UnitType, constants as dw};

use super::Bytes;
use super::die::{Die, Source};

/// One file's units.
pub(super) struct Units {
    pub(super) dwarf: gimli::Dwarf<Bytes>,
    /// Those of .debug_info by offset, then those of .debug_types.
    headers: Vec<UnitHeader<Bytes>>,
    /// How many are of .debug_info.
    of_info: usize,
    signatures: HashMap<DebugTypeSignature, Die>,
    read: RefCell<HashMap<usize, Option<Rc<Unit>>>>,
    source: Source,
}

/// A unit that was read.
pub(super) struct Unit {
    pub(super) raw: gimli::Unit<Bytes>,
    /// Code's address to the function that begins there.
    functions: HashMap<u64, UnitOffset>,
    /// To what a type or function belongs: a namespace or another type.
    pub(super) parents: HashMap<UnitOffset, UnitOffset>,
}

impl Units {
    /// Reads the headers.
    pub(super) fn new(dwarf: gimli::Dwarf<Bytes>, source: Source) -> Self {
        let mut headers = Vec::new();
        let mut units = dwarf.units();
        while let Ok(Some(header)) = units.next() {
            headers.push(header);
        }
        let of_info = headers.len();
        let mut units = dwarf.type_units();
        while let Ok(Some(header)) = units.next() {
            headers.push(header);
        }
        let signature = |(unit, header): (usize, &UnitHeader<Bytes>)| match header.type_() {
            UnitType::Type { type_signature, type_offset } => {
                Some((type_signature, Die { source, unit, offset: type_offset }))
            }
            _ => None,
        };
        let signatures = headers.iter().enumerate().filter_map(signature).collect();
        Self { dwarf, headers, of_info, signatures, read: RefCell::default(), source }
    }

    /// The whole unit; `None` if it is damaged.
    pub(super) fn unit(&self, index: usize) -> Option<Rc<Unit>> {
        if let Some(unit) = self.read.borrow().get(&index) {
            return unit.clone();
        }
        let raw = self.headers.get(index).and_then(|header| self.dwarf.unit(header.clone()).ok());
        let unit = raw.map(|raw| Rc::new(self.walk(raw)));
        self.read.borrow_mut().insert(index, unit.clone());
        unit
    }

    /// The entry at an offset of .debug_info.
    pub(super) fn die_at(&self, offset: gimli::DebugInfoOffset) -> Option<Die> {
        let begins = |header: &UnitHeader<Bytes>| header.debug_info_offset().is_some_and(|begin| begin <= offset);
        let unit = self.headers.get(..self.of_info)?.partition_point(begins).checked_sub(1)?;
        let offset = offset.to_unit_offset(self.headers.get(unit)?)?;
        Some(Die { source: self.source, unit, offset })
    }

    /// A type with a unit of its own.
    pub(super) fn die_of(&self, signature: DebugTypeSignature) -> Option<Die> {
        self.signatures.get(&signature).copied()
    }

    /// The function that begins at `address` in a unit.
    pub(super) fn function_at(&self, unit: usize, address: u64) -> Option<Die> {
        let offset = *self.unit(unit)?.functions.get(&address)?;
        Some(Die { source: self.source, unit, offset })
    }

    /// All functions with code in a unit.
    pub(super) fn functions(&self, unit: usize) -> Vec<Die> {
        let Some(read) = self.unit(unit) else { return Vec::new() };
        read.functions.values().map(|offset| Die { source: self.source, unit, offset: *offset }).collect()
    }

    /// Begin, end and unit of all code; reads the first entry of each unit.
    pub(super) fn code_ranges(&self) -> Vec<(u64, u64, usize)> {
        let mut ranges = Vec::new();
        for (index, header) in self.headers.iter().enumerate().take(self.of_info) {
            let Ok(unit) = self.dwarf.unit(header.clone()) else { continue };
            let mut entries = unit.entries();
            let Ok(Some(root)) = entries.next_dfs() else { continue };
            // Linkers leave 0 for code that they dropped.
            let own = code(&self.dwarf, &unit, root).into_iter().filter(|(begin, _)| *begin != 0);
            ranges.extend(own.map(|(begin, end)| (begin, end, index)));
        }
        ranges
    }

    fn walk(&self, raw: gimli::Unit<Bytes>) -> Unit {
        let (mut functions, mut parents) = (HashMap::new(), HashMap::new());
        let mut above: Vec<(isize, Option<UnitOffset>)> = Vec::new();
        let mut entries = raw.entries();
        while let Ok(Some(entry)) = entries.next_dfs() {
            let (depth, offset, tag) = (entry.depth(), entry.offset(), entry.tag());
            while above.last().is_some_and(|(last, _)| *last >= depth) {
                above.pop();
            }
            let scope = is_scope(tag);
            if scope && let Some((_, Some(parent))) = above.last() {
                parents.insert(offset, *parent);
            }
            if entry.has_children() {
                above.push((depth, scope.then_some(offset)));
            }
            if tag == dw::DW_TAG_subprogram
                && let Some((begin, _)) = code(&self.dwarf, &raw, entry).first()
            {
                functions.entry(*begin).or_insert(offset);
            }
        }
        Unit { raw, functions, parents }
    }
}

/// What types and functions can belong to, and can belong to something.
fn is_scope(tag: gimli::DwTag) -> bool {
    matches!(
        tag,
        dw::DW_TAG_namespace
            | dw::DW_TAG_structure_type
            | dw::DW_TAG_class_type
            | dw::DW_TAG_union_type
            | dw::DW_TAG_enumeration_type
            | dw::DW_TAG_typedef
    )
}

/// Begin and end of an entry's code, the entry point first.
fn code(
    dwarf: &gimli::Dwarf<Bytes>,
    unit: &gimli::Unit<Bytes>,
    entry: &gimli::DebuggingInformationEntry<Bytes>,
) -> Vec<(u64, u64)> {
    let address = |attribute| dwarf.attr_address(unit, entry.attr_value(attribute)?).ok()?;
    if let Some(list) = entry.attr_value(dw::DW_AT_ranges) {
        let Ok(Some(mut list)) = dwarf.attr_ranges(unit, list) else { return Vec::new() };
        let mut ranges = Vec::new();
        while let Ok(Some(range)) = list.next() {
            ranges.push((range.begin, range.end));
        }
        return ranges;
    }
    let Some(begin) = address(dw::DW_AT_low_pc) else { return Vec::new() };
    let end = match entry.attr_value(dw::DW_AT_high_pc) {
        Some(AttributeValue::Udata(size)) => begin.saturating_add(size),
        Some(_) => address(dw::DW_AT_high_pc).unwrap_or(begin),
        None => begin,
    };
    vec![(begin, end)]
}
