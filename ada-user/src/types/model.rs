//! Types of a compiled language, as far as their values have to be found and printed.
//!
//! Invariant: a type is finite: what pointers lead to is there one level deep.

use std::rc::Rc;

use ada_format::manifest::{Named, Part};

/// Whose rules say where values are passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Language {
    /// C, and what calls like it.
    #[default]
    C,
    /// C++.
    Cpp,
    /// Rust.
    Rust,
    /// Go, whose registers are others.
    Go,
    /// One whose rules are not known here.
    Other,
}

/// A function as its debug information declares it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prototype {
    pub(super) language: Language,
    /// In order.
    pub(super) parameters: Vec<Declared>,
    /// None if it gives nothing back.
    pub(super) returns: Option<Rc<Type>>,
    pub(super) variadic: bool,
}

/// A parameter of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) of: Rc<Type>,
    pub(super) seen: Seen,
}

/// Where debug information says that a parameter is when its function begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Seen {
    /// It does not say.
    #[default]
    Unsaid,
    /// In a place that the function has yet to fill: the compiler did not optimise.
    Home,
    /// Nowhere: the compiler found that it is always the same, or computes it.
    Gone,
    /// Here; what is missing is in a floating-point register, or nowhere.
    At { parts: Vec<Part>, by_address: bool },
}

/// A type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Type {
    /// As its language writes it.
    pub(super) name: String,
    /// In bytes; 0 if it is not known or takes none.
    pub(super) size: u32,
    pub(super) kind: Kind,
}

/// What a type's bytes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    Signed,
    Unsigned,
    Bool,
    /// One byte of C's text, or a Unicode character of four.
    Char,
    Float {
        /// The processor's oldest kind, with a register stack of its own: `long double`.
        x87: bool,
    },
    /// Two floating-point numbers.
    Complex {
        /// As of [`Kind::Float`].
        x87: bool,
    },
    /// Numbers that one register holds side by side.
    Vector,
    Pointer {
        /// What is there, one level deep.
        to: Option<Rc<Type>>,
        /// The source does not show that it is a pointer.
        reference: bool,
    },
    Enum(Vec<Named>),
    Struct(Struct),
    Array {
        of: Rc<Type>,
        count: u32,
    },
    /// Of unknown content.
    #[default]
    Other,
}

/// A struct, class, union or enum with data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Struct {
    /// Base classes come first; those of all variants one after the other.
    pub(super) members: Vec<Member>,
    /// Members overlap.
    pub(super) overlaps: bool,
    /// Copying it runs code: it is passed by the address of a copy.
    pub(super) by_address: bool,
    /// In bytes, if its source asks for an alignment; otherwise 0.
    pub(super) align: u32,
    /// It is an object of text, with its pointer and length at these offsets.
    pub(super) text: Option<(u32, u32)>,
}

/// A member of a struct.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    /// In bytes from the start of the struct.
    pub(super) offset: u32,
    pub(super) of: Rc<Type>,
    /// It takes only some bits of its bytes.
    pub(super) is_bits: bool,
}

/// A number, pointer or the like inside a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scalar {
    pub(super) offset: u32,
    pub(super) size: u32,
    pub(super) is_float: bool,
    pub(super) is_pointer: bool,
    pub(super) is_x87: bool,
}

/// More scalars than any value has that is passed in registers.
const ENOUGH: usize = 64;

impl Type {
    /// Its scalars in order of their offsets, each once.
    pub(super) fn scalars(&self) -> Vec<Scalar> {
        let mut scalars = Vec::new();
        self.collect(0, &mut scalars);
        scalars.sort_unstable();
        scalars.dedup();
        scalars
    }

    /// Its alignment in memory, in bytes: what its source asks for, or that of its largest scalar unless it is packed.
    pub(super) fn alignment(&self) -> u32 {
        let natural = match &self.kind {
            Kind::Struct(Struct { members, align, .. }) => {
                let aligned = |member: &Member| {
                    let align = member.of.alignment();
                    Some(align).filter(|align| member.offset.is_multiple_of(*align) && self.size.is_multiple_of(*align))
                };
                members.iter().filter_map(aligned).max().unwrap_or(1).max(*align)
            }
            Kind::Array { of, .. } => of.alignment(),
            Kind::Complex { .. } => self.size / 2,
            Kind::Vector => return self.size.max(1),
            _ => self.size.min(16),
        };
        if natural.is_power_of_two() { natural } else { 1 }
    }

    fn collect(&self, offset: u32, scalars: &mut Vec<Scalar>) {
        if scalars.len() >= ENOUGH {
            return;
        }
        let scalar = |is_float, is_pointer| Scalar { offset, size: self.size, is_float, is_pointer, is_x87: false };
        match &self.kind {
            Kind::Struct(Struct { members, .. }) => {
                for member in members {
                    member.of.collect(offset.saturating_add(member.offset), scalars);
                }
            }
            Kind::Array { of, count } => {
                for index in 0..*count.min(&64) {
                    of.collect(offset.saturating_add(index.saturating_mul(of.size)), scalars);
                }
            }
            Kind::Complex { x87 } => {
                let half = Scalar { size: self.size / 2, is_x87: *x87, ..scalar(true, false) };
                scalars.extend([half, Scalar { offset: offset.saturating_add(half.size), ..half }]);
            }
            Kind::Float { x87 } => scalars.push(Scalar { is_x87: *x87, ..scalar(true, false) }),
            Kind::Vector => scalars.push(scalar(true, false)),
            Kind::Pointer { .. } => scalars.push(scalar(false, true)),
            Kind::Other if self.size == 0 => {}
            _ => scalars.push(scalar(false, false)),
        }
    }
}
