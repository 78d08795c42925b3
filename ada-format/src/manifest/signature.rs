//! What a traced function takes and gives back: names, types, and where each value is at its calls and returns.
//!
//! Invariant: a signature needs nothing but the detail event that it is applied to; it names no type that it does not
//! describe.

use serde::{Deserialize, Serialize};

/// The most enumerators that are kept of one type; of a larger one, values are numbers.
pub const MAX_ENUMERATORS: usize = 256;

/// Parameters and return value of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Signature {
    /// In order; what a method is called on is the first one, `this` or `self`.
    pub parameters: Vec<Parameter>,
    /// None if it gives nothing back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returns: Option<Value>,
    /// Whether more arguments may follow, of which nothing is known.
    #[serde(skip_serializing_if = "is_false")]
    pub variadic: bool,
    /// Who says so.
    pub source: Source,
}

/// Where a signature comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The debug information of the traced file.
    #[default]
    Dwarf,
    /// A table of well-known functions.
    Known,
}

/// A parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parameter {
    /// As in the source; may be empty.
    pub name: String,
    /// What it holds.
    #[serde(flatten)]
    pub value: Value,
    /// It is there only in some calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_if: Option<Condition>,
}

/// Another parameter has one of these bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// Its position.
    pub parameter: usize,
    /// The bits.
    pub bits: u64,
}

/// A parameter's or return value's type and place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Value {
    /// As its language writes it: `const char *`, `&str`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// How its bytes are read.
    pub form: Form,
    /// Where they are; none for what the source of the recording cannot see, such as floating-point registers.
    pub place: Vec<Part>,
    /// The memory slot of the detail event that holds what it points to, if that is copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u8>,
}

/// Where some bytes of a value are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The register or stack word.
    #[serde(flatten)]
    pub at: Location,
    /// Where in the value these bytes belong, in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offset: u32,
    /// Number of bytes.
    #[serde(default = "word", skip_serializing_if = "is_word")]
    pub size: u32,
}

/// A place in a detail event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    /// Position in its registers.
    Register(u8),
    /// Bytes from the stack pointer upwards.
    Stack(u32),
}

/// How bytes are read; all little-endian, sizes and offsets in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Form {
    /// A number below zero or not.
    Signed {
        /// Its size.
        size: u32,
    },
    /// A number.
    Unsigned {
        /// Its size.
        size: u32,
    },
    /// A number that people write to the base of eight, such as a file's mode.
    Octal {
        /// Its size.
        size: u32,
    },
    /// 0 is false.
    Bool {
        /// Its size.
        size: u32,
    },
    /// One byte: a C char; four: a Unicode character.
    Char {
        /// Its size.
        size: u32,
    },
    /// A floating-point number by IEEE 754.
    Float {
        /// Its size.
        size: u32,
    },
    /// Characters in place, up to the first zero byte.
    Chars {
        /// Room for them.
        size: u32,
    },
    /// An address.
    Pointer {
        /// What the slot holds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Box<Form>>,
    },
    /// An address that the source does not show, as of a C++ reference: stands for what is there.
    Reference {
        /// What the slot holds.
        to: Box<Form>,
    },
    /// The address of bytes up to the first zero, which the slot holds.
    CString,
    /// The address of as many bytes as another parameter says, which the slot holds.
    Buffer {
        /// The position of the parameter with the length.
        length: usize,
    },
    /// An object with the address and length of bytes, which the slot holds.
    Text {
        /// Where in the object the address is.
        pointer: u32,
        /// Where in the object the length is: a u64.
        length: u32,
    },
    /// One of several named numbers.
    Enum {
        /// Its size.
        size: u32,
        /// All of them.
        names: Vec<Named>,
    },
    /// Named bits.
    Flags {
        /// Its size.
        size: u32,
        /// These bits are a number of their own, whose names have no other bits.
        #[serde(default, skip_serializing_if = "is_zero_u64")]
        number: u64,
        /// Names; those of several bits before those of one of them.
        names: Vec<Named>,
    },
    /// Fields.
    Struct {
        /// Its size.
        size: u32,
        /// In order.
        fields: Vec<Field>,
    },
    /// Bytes without a known meaning.
    Opaque {
        /// Their number.
        size: u32,
    },
    /// A kind that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A name for a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The number.
    pub value: i64,
}

/// A member of a struct.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Field {
    /// As in the source.
    pub name: String,
    /// From the start of the struct.
    pub offset: u32,
    /// How its bytes are read.
    pub form: Form,
}

impl Form {
    /// Bytes that a value of this form takes, not counting what it points to.
    #[must_use]
    pub fn size(&self) -> u32 {
        match self {
            Self::Signed { size }
            | Self::Unsigned { size }
            | Self::Octal { size }
            | Self::Bool { size }
            | Self::Char { size }
            | Self::Float { size }
            | Self::Chars { size }
            | Self::Enum { size, .. }
            | Self::Flags { size, .. }
            | Self::Struct { size, .. }
            | Self::Opaque { size } => *size,
            Self::Pointer { .. } | Self::Reference { .. } | Self::CString | Self::Buffer { .. } => 8,
            Self::Text { pointer, length } => pointer.max(length).saturating_add(8),
            Self::Unknown => 0,
        }
    }
}

impl Part {
    /// The whole word at a location.
    #[must_use]
    pub fn whole(at: Location) -> Self {
        Self { at, offset: 0, size: word() }
    }
}

fn word() -> u32 {
    8
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_word(size: &u32) -> bool {
    *size == word()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !flag
}
