//! An entry of debug information: its attributes, its children, and the entries that it refers to.
//!
//! Invariant: a chain of references is followed a limited way, for a damaged one may be a circle.

use std::rc::Rc;

use gimli::{AttributeValue, DwAt, DwTag, Reader, UnitOffset, constants as dw};

use super::unit::{Unit, Units};
use super::{Bytes, DebugInfo};

/// The longest chain from a function to its declaration.
const LONGEST_CHAIN: usize = 8;

/// Which file an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// The debug information itself.
    Main,
    /// What dwz moved out of it.
    Supplement,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Die {
    pub(super) source: Source,
    pub(super) unit: usize,
    pub(super) offset: UnitOffset,
}

/// An entry that was read.
pub(super) struct Entry {
    pub(super) die: Die,
    pub(super) unit: Rc<Unit>,
    raw: gimli::DebuggingInformationEntry<Bytes>,
}

impl Entry {
    pub(super) fn tag(&self) -> DwTag {
        self.raw.tag()
    }

    pub(super) fn value(&self, attribute: DwAt) -> Option<AttributeValue<Bytes>> {
        self.raw.attr_value(attribute)
    }

    /// A number, of whatever form.
    pub(super) fn number(&self, attribute: DwAt) -> Option<u64> {
        let attribute = self.raw.attr(attribute)?;
        attribute.udata_value().or_else(|| attribute.sdata_value().map(i64::cast_unsigned))
    }

    /// A number that may be below zero.
    pub(super) fn signed(&self, attribute: DwAt) -> Option<i64> {
        let attribute = self.raw.attr(attribute)?;
        attribute.sdata_value().or_else(|| attribute.udata_value().map(u64::cast_signed))
    }

    /// A small number; larger ones count as none.
    pub(super) fn small(&self, attribute: DwAt) -> Option<u32> {
        u32::try_from(self.number(attribute)?).ok()
    }

    pub(super) fn flag(&self, attribute: DwAt) -> bool {
        matches!(self.value(attribute), Some(AttributeValue::Flag(true)))
    }
}

impl DebugInfo {
    /// Reads an entry.
    pub(super) fn entry(&self, die: Die) -> Option<Entry> {
        let unit = self.units(die.source)?.unit(die.unit)?;
        let raw = unit.raw.entry(die.offset).ok()?;
        Some(Entry { die, unit, raw })
    }

    /// Reads a type's entry; for one that only stands for a unit of its own, that one's.
    pub(super) fn type_entry(&self, die: Die) -> Option<Entry> {
        let entry = self.entry(die)?;
        let own_unit = self.reference(&entry, dw::DW_AT_signature).and_then(|die| self.entry(die));
        Some(own_unit.unwrap_or(entry))
    }

    /// The entry that an attribute refers to.
    pub(super) fn reference(&self, entry: &Entry, attribute: DwAt) -> Option<Die> {
        let Die { source, unit, .. } = entry.die;
        match entry.value(attribute)? {
            AttributeValue::UnitRef(offset) => Some(Die { source, unit, offset }),
            AttributeValue::DebugInfoRef(offset) => self.units(source)?.die_at(offset),
            AttributeValue::DebugInfoRefSup(offset) => self.supplement.as_ref()?.die_at(offset),
            AttributeValue::DebugTypesRef(signature) => self.units(source)?.die_of(signature),
            _ => None,
        }
    }

    /// Text of an attribute.
    pub(super) fn text(&self, entry: &Entry, attribute: DwAt) -> Option<String> {
        let value = entry.value(attribute)?;
        let text = self.units(entry.die.source)?.dwarf.attr_string(&entry.unit.raw, value).ok()?;
        Some(text.to_string_lossy().ok()?.into_owned())
    }

    /// The entry, what it is an instance of, and what it defines, up to the first declaration.
    pub(super) fn chain(&self, die: Die) -> Vec<Entry> {
        let mut chain: Vec<Entry> = Vec::new();
        let mut next = Some(die);
        while let Some(entry) = next.and_then(|die| self.entry(die)) {
            let origin = self.reference(&entry, dw::DW_AT_abstract_origin);
            next = origin.or_else(|| self.reference(&entry, dw::DW_AT_specification));
            chain.push(entry);
            if chain.len() >= LONGEST_CHAIN {
                break;
            }
        }
        chain
    }

    /// The first entry of a chain that has a reference, followed.
    pub(super) fn chained(&self, chain: &[Entry], attribute: DwAt) -> Option<Die> {
        chain.iter().find_map(|entry| self.reference(entry, attribute))
    }

    /// The name by which the linker knows a function.
    pub(super) fn linkage_name(&self, die: Die) -> Option<String> {
        let chain = self.chain(die);
        let text = |attribute| chain.iter().find_map(|entry| self.text(entry, attribute));
        text(dw::DW_AT_linkage_name).or_else(|| text(dw::DW_AT_MIPS_linkage_name)).or_else(|| text(dw::DW_AT_name))
    }

    /// What belongs directly to an entry.
    pub(super) fn children(&self, entry: &Entry) -> Vec<Entry> {
        let mut children = Vec::new();
        let Ok(mut cursor) = entry.unit.raw.entries_at_offset(entry.die.offset) else { return children };
        if !matches!(cursor.next_dfs(), Ok(Some(itself)) if itself.has_children()) || cursor.next_entry().is_err() {
            return children;
        }
        let mut next = cursor.current().cloned();
        while let Some(raw) = next {
            let die = Die { offset: raw.offset(), ..entry.die };
            children.push(Entry { die, unit: Rc::clone(&entry.unit), raw });
            next = cursor.next_sibling().ok().flatten().cloned();
        }
        children
    }

    /// The units of a file.
    pub(super) fn units(&self, source: Source) -> Option<&Units> {
        match source {
            Source::Main => Some(&self.main),
            Source::Supplement => self.supplement.as_ref(),
        }
    }
}
