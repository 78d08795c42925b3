//! What types are called in their language.
//!
//! Invariant: a name is finite, also if a damaged type refers to itself.

use gimli::constants as dw;

use super::DebugInfo;
use super::die::{Die, Entry};
use crate::types::model::Language;

/// Deeper types are cut short.
const DEEPEST: u32 = 12;
const TOO_DEEP: &str = "…";

impl DebugInfo {
    /// The name of a type; none is C's void.
    pub(super) fn type_name(&self, die: Option<Die>, language: Language) -> String {
        self.name(die, language, 0)
    }

    fn name(&self, die: Option<Die>, language: Language, depth: u32) -> String {
        let Some(entry) = die.and_then(|die| self.type_entry(die)) else { return "void".to_owned() };
        if depth > DEEPEST {
            return TOO_DEEP.to_owned();
        }
        let own = self.text(&entry, dw::DW_AT_name);
        let inner = || self.name(self.reference(&entry, dw::DW_AT_type), language, depth + 1);
        match entry.tag() {
            // Rust's have names.
            dw::DW_TAG_pointer_type => own.unwrap_or_else(|| pointer(&inner(), "*")),
            dw::DW_TAG_reference_type => pointer(&inner(), "&"),
            dw::DW_TAG_rvalue_reference_type => pointer(&inner(), "&&"),
            dw::DW_TAG_const_type => qualified(&inner(), "const"),
            dw::DW_TAG_volatile_type => qualified(&inner(), "volatile"),
            dw::DW_TAG_restrict_type | dw::DW_TAG_atomic_type => inner(),
            dw::DW_TAG_array_type => own.unwrap_or_else(|| self.array_name(&entry, &inner())),
            dw::DW_TAG_subroutine_type => self.function_name(&entry, &inner(), language, depth),
            dw::DW_TAG_ptr_to_member_type => format!("{} member *", inner()),
            tag => {
                let name = own.map_or_else(|| "{...}".to_owned(), |name| self.with_scopes(&entry, name, language));
                match (language, keyword(tag)) {
                    (Language::C, Some(keyword)) => format!("{keyword} {name}"),
                    _ => name,
                }
            }
        }
    }

    fn array_name(&self, entry: &Entry, of: &str) -> String {
        let count = self.array_count(entry).map_or_else(String::new, |count| count.to_string());
        format!("{of} [{count}]")
    }

    /// How many elements an array has.
    pub(super) fn array_count(&self, array: &Entry) -> Option<u32> {
        let ranges = self.children(array);
        let mut ranges = ranges.iter().filter(|child| child.tag() == dw::DW_TAG_subrange_type).peekable();
        ranges.peek()?;
        let count = |range: &Entry| {
            let by_bound = || range.small(dw::DW_AT_upper_bound)?.checked_add(1);
            range.small(dw::DW_AT_count).or_else(by_bound)
        };
        ranges.try_fold(1_u32, |product, range| product.checked_mul(count(range)?))
    }

    fn function_name(&self, entry: &Entry, returned: &str, language: Language, depth: u32) -> String {
        let parameter = |child: &Entry| self.name(self.reference(child, dw::DW_AT_type), language, depth + 1);
        let children = self.children(entry);
        let parameters = children.iter().filter(|child| child.tag() == dw::DW_TAG_formal_parameter);
        format!("{returned} ({})", parameters.map(parameter).collect::<Vec<_>>().join(", "))
    }

    /// `std::string`; inline namespaces are left out, as people do, and Rust's paths.
    fn with_scopes(&self, entry: &Entry, name: String, language: Language) -> String {
        if language != Language::Cpp {
            return name;
        }
        let mut scopes = self.scopes(entry);
        scopes.retain(|(name, inline)| !inline && !name.starts_with("__"));
        scopes.iter().fold(name, |name, (scope, _)| format!("{scope}::{name}"))
    }

    /// The namespaces and classes that an entry is in, from the inside; and whether they are inline.
    pub(super) fn scopes(&self, entry: &Entry) -> Vec<(String, bool)> {
        let mut scopes = Vec::new();
        // A definition may stand outside; what it defines is where it belongs.
        let declared = self.reference(entry, dw::DW_AT_specification).and_then(|die| self.entry(die));
        let entry = declared.as_ref().unwrap_or(entry);
        let mut offset = entry.die.offset;
        while let Some(parent) = entry.unit.parents.get(&offset).filter(|parent| **parent < offset) {
            offset = *parent;
            let Some(parent) = self.entry(Die { offset, ..entry.die }) else { break };
            if let Some(name) = self.text(&parent, dw::DW_AT_name) {
                scopes.push((name, parent.flag(dw::DW_AT_export_symbols)));
            }
        }
        scopes
    }
}

/// C's word before the name of a struct.
fn keyword(tag: gimli::DwTag) -> Option<&'static str> {
    match tag {
        dw::DW_TAG_structure_type | dw::DW_TAG_class_type => Some("struct"),
        dw::DW_TAG_union_type => Some("union"),
        dw::DW_TAG_enumeration_type => Some("enum"),
        _ => None,
    }
}

/// `int` to `int *`, `int *` to `int **`, `int (char)` to `int (*)(char)`.
fn pointer(to: &str, sign: &str) -> String {
    if to.ends_with(')')
        && let Some((returned, parameters)) = to.split_once(" (")
    {
        return format!("{returned} ({sign})({parameters}");
    }
    if to.ends_with(['*', '&']) { format!("{to}{sign}") } else { format!("{to} {sign}") }
}

/// A pointer's qualifier stands behind it.
fn qualified(name: &str, qualifier: &str) -> String {
    if name.ends_with(['*', '&']) { format!("{name}{qualifier}") } else { format!("{qualifier} {name}") }
}
