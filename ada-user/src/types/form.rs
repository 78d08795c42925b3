//! How values of a type are read and printed: the model's types to the manifest's forms.
//!
//! Invariant: a form holds only what the copied bytes can show.

use ada_format::manifest::{Field, Form};

use super::model::{Kind, Language, Member, Struct, Type};

/// Fields that are kept of one struct.
const MAX_FIELDS: usize = 64;

/// What forms depend on beside the type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forms {
    pub(super) language: Language,
    /// Bytes that are copied of a struct.
    pub(super) copied: u32,
}

impl Forms {
    /// The form of a parameter or return value.
    pub(super) fn of(&self, of: &Type) -> Form {
        match &of.kind {
            Kind::Pointer { to: Some(to), reference } => self.pointer(to, *reference),
            _ => self.plain(of),
        }
    }

    fn pointer(&self, to: &Type, reference: bool) -> Form {
        let inner = match &to.kind {
            Kind::Char if to.size == 1 && !reference && self.language != Language::Rust => return Form::CString,
            // What is behind another pointer is not copied; bytes are mostly buffers.
            Kind::Pointer { .. } | Kind::Other | Kind::Array { .. } if !reference => return Form::Pointer { to: None },
            Kind::Signed | Kind::Unsigned if to.size <= 1 && !reference => return Form::Pointer { to: None },
            _ if to.size == 0 && !is_text(to) => return Form::Pointer { to: None },
            _ => Box::new(self.plain(to)),
        };
        if reference { Form::Reference { to: inner } } else { Form::Pointer { to: Some(inner) } }
    }

    /// The form of what is in memory, where pointers are not followed.
    pub(super) fn plain(&self, of: &Type) -> Form {
        let size = of.size;
        match &of.kind {
            Kind::Signed => Form::Signed { size },
            Kind::Unsigned => Form::Unsigned { size },
            Kind::Bool => Form::Bool { size },
            Kind::Char => Form::Char { size },
            Kind::Float { .. } => Form::Float { size },
            Kind::Pointer { .. } => Form::Pointer { to: None },
            Kind::Enum(names) => Form::Enum { size, names: names.clone() },
            Kind::Struct(of) => self.structure(of, size),
            Kind::Array { of, .. } if matches!(of.kind, Kind::Char) && of.size == 1 => Form::Chars { size },
            Kind::Array { of, count } if is_scalar(of) => self.array(of, *count, size),
            Kind::Complex { .. } | Kind::Vector | Kind::Array { .. } | Kind::Other => Form::Opaque { size },
        }
    }

    /// Elements are fields without names.
    fn array(&self, of: &Type, count: u32, size: u32) -> Form {
        let element = |index: u32| {
            let offset = index.saturating_mul(of.size);
            Field { name: String::new(), offset, form: self.plain(of) }
        };
        let elements = (0..count).map(element).take_while(|field| field.offset < self.copied.max(16));
        Form::Struct { size, fields: elements.take(MAX_FIELDS).collect() }
    }

    fn structure(&self, of: &Struct, size: u32) -> Form {
        if let Some((pointer, length)) = of.text {
            return Form::Text { pointer, length };
        }
        if self.language == Language::Rust && of.overlaps {
            return raw(of, size);
        }
        let visible = of.members.iter().filter(|member| self.is_visible(member));
        let fields = visible.take(MAX_FIELDS).map(|member| self.field(member)).collect();
        Form::Struct { size, fields }
    }

    fn is_visible(&self, member: &Member) -> bool {
        !member.is_bits && member.of.size > 0 && member.offset < self.copied.max(16)
    }

    fn field(&self, member: &Member) -> Field {
        // A string inside a struct would need a copy of its own.
        let form = match self.plain(&member.of) {
            Form::Text { .. } => Form::Opaque { size: member.of.size },
            form => form,
        };
        // Rust's tuples have numbers for names.
        let numbered = self.language == Language::Rust && member.name.starts_with("__");
        let name = if numbered { String::new() } else { member.name.clone() };
        Field { name, offset: member.offset, form }
    }
}

/// An enum with data as its numbers; one that is a pointer or nothing, as a pointer.
fn raw(of: &Struct, size: u32) -> Form {
    let whole = Type { size, kind: Kind::Struct(of.clone()), ..Type::default() };
    let mut scalars = whole.scalars();
    // The discriminant lies where the pointer is that it is made from.
    scalars.sort_by_key(|scalar| (scalar.offset, !scalar.is_pointer));
    scalars.dedup_by_key(|scalar| scalar.offset);
    match scalars.as_slice() {
        [one] if one.size == 8 && size == 8 && one.is_pointer => Form::Pointer { to: None },
        [] => Form::Opaque { size },
        several if several.len() > 4 => Form::Opaque { size },
        several => {
            let field = |scalar: &super::model::Scalar| {
                let size = scalar.size;
                let form = if scalar.is_pointer { Form::Pointer { to: None } } else { Form::Unsigned { size } };
                Field { name: String::new(), offset: scalar.offset, form }
            };
            Form::Struct { size, fields: several.iter().map(field).collect() }
        }
    }
}

fn is_scalar(of: &Type) -> bool {
    let is_number =
        !matches!(of.kind, Kind::Struct(_) | Kind::Array { .. } | Kind::Complex { .. } | Kind::Vector | Kind::Other);
    of.size > 0 && is_number
}

fn is_text(of: &Type) -> bool {
    matches!(&of.kind, Kind::Struct(Struct { text: Some(_), .. }))
}
