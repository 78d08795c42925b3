//! Types of the debug information to types of the model.
//!
//! Invariant: pointers are followed one level, nesting a limited number of levels: the result is finite whatever the
//! debug information says.

use std::collections::HashMap;
use std::rc::Rc;

use ada_format::manifest::{MAX_ENUMERATORS, Named};
use gimli::{AttributeValue, constants as dw};

use super::DebugInfo;
use super::die::{Die, Entry};
use crate::types::model::{Kind, Language, Member, Struct, Type};
use crate::types::text;

/// Types that were resolved before.
pub(super) type Cache = HashMap<(Die, Depth), Rc<Type>>;

/// Structs in structs are followed this far.
const DEEPEST: u32 = 12;
/// Members of one struct that are kept.
const MAX_MEMBERS: usize = 256;

/// How much of a type is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Depth {
    /// All, and what pointers lead to.
    Whole,
    /// Pointers are addresses.
    Pointee,
}

impl DebugInfo {
    /// The type of an entry; `None` if the debug information is damaged there.
    pub(super) fn resolve(&self, die: Die, language: Language, depth: Depth) -> Option<Rc<Type>> {
        self.nested(die, language, depth, 0)
    }

    fn nested(&self, die: Die, language: Language, depth: Depth, level: u32) -> Option<Rc<Type>> {
        if let Some(known) = self.types.borrow().get(&(die, depth)) {
            return Some(Rc::clone(known));
        }
        if level > DEEPEST {
            return None;
        }
        let entry = self.type_entry(die)?;
        let name = self.type_name(Some(die), language);
        let of = Rc::new(self.of_entry(&entry, name, language, depth, level)?);
        self.types.borrow_mut().insert((die, depth), Rc::clone(&of));
        Some(of)
    }

    fn of_entry(&self, entry: &Entry, name: String, language: Language, depth: Depth, level: u32) -> Option<Type> {
        let size = entry.small(dw::DW_AT_byte_size);
        let kind = match entry.tag() {
            dw::DW_TAG_base_type => base(entry, &name, language),
            dw::DW_TAG_pointer_type => {
                self.pointer(entry, language, depth, language == Language::Rust && name.starts_with('&'))
            }
            dw::DW_TAG_reference_type | dw::DW_TAG_rvalue_reference_type => self.pointer(entry, language, depth, true),
            dw::DW_TAG_typedef
            | dw::DW_TAG_const_type
            | dw::DW_TAG_volatile_type
            | dw::DW_TAG_restrict_type
            | dw::DW_TAG_atomic_type => {
                let Some(target) = self.reference(entry, dw::DW_AT_type) else {
                    return Some(Type { name, ..Type::default() });
                };
                let target = self.nested(target, language, depth, level + 1)?;
                return Some(Type { name, size: target.size, kind: target.kind.clone() });
            }
            dw::DW_TAG_enumeration_type => self.enumeration(entry),
            dw::DW_TAG_structure_type | dw::DW_TAG_class_type | dw::DW_TAG_union_type => {
                Kind::Struct(self.structure(entry, language, depth, level))
            }
            dw::DW_TAG_array_type => return self.array(entry, name, language, level),
            dw::DW_TAG_ptr_to_member_type => return Some(self.member_pointer(entry, name)),
            dw::DW_TAG_unspecified_type => Kind::Pointer { to: None, reference: false },
            _ => Kind::Other,
        };
        let is_pointer = matches!(kind, Kind::Pointer { .. });
        Some(Type { name, size: size.unwrap_or(if is_pointer { 8 } else { 0 }), kind })
    }

    fn pointer(&self, entry: &Entry, language: Language, depth: Depth, reference: bool) -> Kind {
        let target = self.reference(entry, dw::DW_AT_type).filter(|_| depth == Depth::Whole);
        let to = target.and_then(|target| self.resolve(target, language, Depth::Pointee));
        Kind::Pointer { to, reference }
    }

    fn enumeration(&self, entry: &Entry) -> Kind {
        let mut names = Vec::new();
        for child in self.children(entry) {
            if child.tag() != dw::DW_TAG_enumerator {
                continue;
            }
            let (name, value) = (self.text(&child, dw::DW_AT_name), child.signed(dw::DW_AT_const_value));
            if let (Some(name), Some(value)) = (name, value) {
                names.push(Named { name, value });
            }
        }
        if names.len() > MAX_ENUMERATORS {
            names.clear();
        }
        Kind::Enum(names)
    }

    fn structure(&self, entry: &Entry, language: Language, depth: Depth, level: u32) -> Struct {
        let align = entry.small(dw::DW_AT_alignment).unwrap_or(0);
        let mut found = Struct { overlaps: entry.tag() == dw::DW_TAG_union_type, align, ..Struct::default() };
        found.by_address = match entry.value(dw::DW_AT_calling_convention) {
            Some(AttributeValue::CallingConvention(dw::DW_CC_pass_by_reference)) => true,
            Some(AttributeValue::CallingConvention(dw::DW_CC_pass_by_value)) => false,
            _ => language == Language::Cpp && self.is_copied_by_code(entry),
        };
        self.members(entry, language, depth, level, &mut found);
        if language == Language::Cpp && entry.value(dw::DW_AT_calling_convention).is_none() {
            found.by_address |= found.members.iter().any(|member| is_by_address(&member.of));
        }
        let name = self.text(entry, dw::DW_AT_name).unwrap_or_default();
        let scopes: Vec<String> = self.scopes(entry).into_iter().map(|(name, _)| name).collect();
        found.text = text::layout(language, &name, &scopes, &found.members);
        if entry.flag(dw::DW_AT_declaration) && found.text.is_some() {
            found.by_address = text::is_owner(&name);
        }
        found
    }

    fn members(&self, entry: &Entry, language: Language, depth: Depth, level: u32, found: &mut Struct) {
        for child in self.children(entry) {
            if found.members.len() >= MAX_MEMBERS {
                return;
            }
            match child.tag() {
                dw::DW_TAG_member | dw::DW_TAG_inheritance => {
                    found.members.extend(self.member(&child, language, depth, level));
                }
                dw::DW_TAG_variant_part => {
                    found.overlaps = true;
                    self.members(&child, language, depth, level + 1, found);
                }
                dw::DW_TAG_variant if level <= DEEPEST => self.members(&child, language, depth, level + 1, found),
                _ => {}
            }
        }
    }

    fn member(&self, entry: &Entry, language: Language, depth: Depth, level: u32) -> Option<Member> {
        // A static member is a variable.
        if entry.flag(dw::DW_AT_external) || entry.flag(dw::DW_AT_declaration) {
            return None;
        }
        let of = self.nested(self.reference(entry, dw::DW_AT_type)?, language, depth, level + 1)?;
        let bit = entry.small(dw::DW_AT_data_bit_offset);
        let offset = match (entry.small(dw::DW_AT_data_member_location), bit) {
            (Some(offset), _) => offset,
            (None, Some(bit)) => bit / 8,
            // A union's members; an expression is that of a virtual base class.
            (None, None) if entry.value(dw::DW_AT_data_member_location).is_none() => 0,
            (None, None) => return None,
        };
        let name = self.text(entry, dw::DW_AT_name).unwrap_or_default();
        Some(Member { name, offset, of, is_bits: bit.is_some() || entry.value(dw::DW_AT_bit_size).is_some() })
    }

    fn array(&self, entry: &Entry, name: String, language: Language, level: u32) -> Option<Type> {
        let target = self.reference(entry, dw::DW_AT_type)?;
        let of = self.nested(target, language, Depth::Pointee, level + 1)?;
        let count = self.array_count(entry).unwrap_or(0);
        let size = entry.small(dw::DW_AT_byte_size).unwrap_or_else(|| of.size.saturating_mul(count));
        let kind = if entry.flag(dw::DW_AT_GNU_vector) { Kind::Vector } else { Kind::Array { of, count } };
        Some(Type { name, size, kind })
    }

    /// Two words for a function, one for data.
    fn member_pointer(&self, entry: &Entry, name: String) -> Type {
        let target = self.reference(entry, dw::DW_AT_type).and_then(|die| self.entry(die));
        let word = Rc::new(Type { name: "long".to_owned(), size: 8, kind: Kind::Signed });
        if target.is_none_or(|target| target.tag() != dw::DW_TAG_subroutine_type) {
            return Type { name, size: 8, kind: Kind::Signed };
        }
        let member =
            |name: &str, offset| Member { name: name.to_owned(), offset, of: Rc::clone(&word), is_bits: false };
        let members = vec![member("function", 0), member("adjust", 8)];
        Type { name, size: 16, kind: Kind::Struct(Struct { members, ..Struct::default() }) }
    }

    /// For compilers that do not say how a class is passed: it has a destructor, copy constructor or virtual function
    /// that is its author's.
    fn is_copied_by_code(&self, class: &Entry) -> bool {
        let class_name = self.text(class, dw::DW_AT_name).unwrap_or_default();
        let written = |child: &Entry| {
            if child.tag() == dw::DW_TAG_member {
                return self.text(child, dw::DW_AT_name).is_some_and(|name| name.starts_with("_vptr"));
            }
            child.tag() == dw::DW_TAG_subprogram
                && child.value(dw::DW_AT_defaulted).is_none()
                && !child.flag(dw::DW_AT_artificial)
                && self
                    .text(child, dw::DW_AT_name)
                    .is_some_and(|name| name.starts_with('~') || (name == class_name && self.takes(child, &class_name)))
        };
        self.children(class).iter().any(written)
    }

    /// Whether a constructor takes another object of its class by reference.
    fn takes(&self, constructor: &Entry, class: &str) -> bool {
        let parameters = self.children(constructor);
        let second = parameters.iter().filter(|child| child.tag() == dw::DW_TAG_formal_parameter).nth(1);
        let name = second.map(|second| self.type_name(self.reference(second, dw::DW_AT_type), Language::Cpp));
        name.is_some_and(|name| name.contains(class) && name.ends_with('&'))
    }
}

fn is_by_address(of: &Type) -> bool {
    matches!(&of.kind, Kind::Struct(Struct { by_address: true, .. }))
}

fn base(entry: &Entry, name: &str, language: Language) -> Kind {
    let Some(AttributeValue::Encoding(encoding)) = entry.value(dw::DW_AT_encoding) else { return Kind::Other };
    match encoding {
        dw::DW_ATE_boolean => Kind::Bool,
        // _Float128, of the same size, goes into the registers of double.
        dw::DW_ATE_float => Kind::Float { x87: name.contains("long double") },
        dw::DW_ATE_complex_float => Kind::Complex { x87: name.contains("long double") },
        dw::DW_ATE_UTF => Kind::Char,
        dw::DW_ATE_signed_char | dw::DW_ATE_unsigned_char if name == "char" && language != Language::Rust => Kind::Char,
        dw::DW_ATE_signed | dw::DW_ATE_signed_char => Kind::Signed,
        dw::DW_ATE_unsigned | dw::DW_ATE_unsigned_char | dw::DW_ATE_address => Kind::Unsigned,
        _ => Kind::Other,
    }
}
