//! Values as people read them: `open(path="/etc/hostname", flags=O_RDONLY|O_CLOEXEC)`, ` = 3`.
//!
//! Invariant: one line, whatever a traced program's memory holds.

use std::fmt::{self, Write};

use super::observed::{Bytes, Moment, Observed};
use super::present;
use super::quote::quote;
use crate::manifest::{Field, Form, Named, Signature, Value};
use crate::write::Memory;

/// Writes what a call was given, `name(x=1)`, or what it gave back, ` = 3`; nothing for a function that gives nothing.
///
/// # Errors
/// Those of `out`.
pub fn write_call(out: &mut impl Write, name: &str, signature: &Signature, observed: &Observed<'_>) -> fmt::Result {
    match (observed.moment, &signature.returns) {
        (Moment::Call, _) => {
            out.write_str(name)?;
            arguments(out, signature, observed)
        }
        (Moment::Return, Some(value)) => {
            out.write_str(" = ")?;
            top(out, value, observed)
        }
        (Moment::Return, None) => Ok(()),
    }
}

/// Writes a signature for people: `int open(const char *path, int flags, ...)`.
///
/// # Errors
/// Those of `out`.
pub fn write_signature(out: &mut impl Write, name: &str, signature: &Signature) -> fmt::Result {
    declare(out, signature.returns.as_ref().map_or("void", |value| value.type_name.as_str()), name)?;
    out.write_char('(')?;
    let mut before = "";
    for parameter in &signature.parameters {
        out.write_str(before)?;
        declare(out, &parameter.value.type_name, &parameter.name)?;
        before = ", ";
    }
    out.write_str(if signature.variadic { before } else { "" })?;
    out.write_str(if signature.variadic { "...)" } else { ")" })
}

fn declare(out: &mut impl Write, type_name: &str, name: &str) -> fmt::Result {
    printable(out, type_name)?;
    out.write_str(if name.is_empty() || type_name.ends_with(['*', '&']) { "" } else { " " })?;
    printable(out, name)
}

fn arguments(out: &mut impl Write, signature: &Signature, observed: &Observed<'_>) -> fmt::Result {
    out.write_char('(')?;
    let mut before = "";
    for parameter in present(signature, observed) {
        out.write_str(before)?;
        if !parameter.name.is_empty() {
            printable(out, &parameter.name)?;
            out.write_char('=')?;
        }
        top(out, &parameter.value, observed)?;
        before = ", ";
    }
    if signature.variadic {
        write!(out, "{before}...")?;
    }
    out.write_char(')')
}

fn top(out: &mut impl Write, value: &Value, observed: &Observed<'_>) -> fmt::Result {
    form(out, &value.form, observed.of(value), 0, observed.slot(value.slot))
}

/// Writes the value at `offset`. `memory` is what it points to.
fn form(out: &mut impl Write, form: &Form, bytes: Bytes<'_>, offset: u32, memory: Option<Memory<'_>>) -> fmt::Result {
    match form {
        Form::Pointer { to } => pointer(out, to.as_deref(), bytes, offset, memory),
        Form::Reference { to } => match memory {
            Some(memory) => pointed(out, to, memory),
            None => pointer(out, None, bytes, offset, None),
        },
        Form::CString | Form::Buffer { .. } => match memory {
            Some(memory) if bytes.number(offset, 8) != Some(0) => text(out, memory),
            _ => pointer(out, None, bytes, offset, None),
        },
        Form::Text { pointer: at, length } => match memory {
            Some(memory) => text(out, memory),
            None if bytes.number(offset.saturating_add(*length), 8) == Some(0) => out.write_str("\"\""),
            None => pointer(out, None, bytes, offset.saturating_add(*at), None),
        },
        Form::Struct { fields, .. } => structure(out, form, fields, bytes, offset),
        Form::Chars { size } => chars(out, &bytes.known(offset, *size), *size),
        Form::Float { size } => float(out, bytes, offset, *size),
        Form::Opaque { .. } | Form::Unknown => out.write_str("{...}"),
        _ => scalar(out, form, bytes, offset),
    }
}

fn scalar(out: &mut impl Write, form: &Form, bytes: Bytes<'_>, offset: u32) -> fmt::Result {
    let size = form.size();
    let (Some(number), Some(signed)) = (bytes.number(offset, size), bytes.signed(offset, size)) else {
        return out.write_char('?');
    };
    if size > 8 {
        return wide(out, bytes, offset, form);
    }
    match form {
        Form::Signed { .. } => write!(out, "{signed}"),
        Form::Bool { .. } => match number {
            0 => out.write_str("false"),
            1 => out.write_str("true"),
            other => write!(out, "{other}"),
        },
        Form::Octal { .. } => write!(out, "{}{number:o}", if number == 0 { "" } else { "0" }),
        Form::Char { size } => character(out, number, signed, *size > 1),
        Form::Enum { names, .. } => match named(names, signed, number) {
            Some(name) => printable(out, name),
            None => write!(out, "{signed}"),
        },
        Form::Flags { names, number: part, .. } => flags(out, names, *part, number),
        _ => write!(out, "{number}"),
    }
}

/// Numbers of 128 bits.
fn wide(out: &mut impl Write, bytes: Bytes<'_>, offset: u32, form: &Form) -> fmt::Result {
    let halves = (bytes.number(offset, 8), bytes.number(offset.saturating_add(8), 8));
    let (Some(low), Some(high), 16) = (halves.0, halves.1, form.size()) else {
        return out.write_str("{...}");
    };
    let number = u128::from(high) << 64 | u128::from(low);
    match form {
        Form::Signed { .. } => write!(out, "{}", number.cast_signed()),
        _ => write!(out, "{number}"),
    }
}

fn pointer(
    out: &mut impl Write,
    to: Option<&Form>,
    bytes: Bytes<'_>,
    offset: u32,
    memory: Option<Memory<'_>>,
) -> fmt::Result {
    match bytes.number(offset, 8) {
        None => return out.write_char('?'),
        Some(0) => return out.write_str("NULL"),
        // What functions that give pointers say of an error.
        Some(u64::MAX) => return out.write_str("-1"),
        Some(address) => write!(out, "{address:#x}")?,
    }
    let (Some(to), Some(memory)) = (to, memory) else { return Ok(()) };
    out.write_str(" -> ")?;
    pointed(out, to, memory)
}

fn pointed(out: &mut impl Write, to: &Form, memory: Memory<'_>) -> fmt::Result {
    match to {
        Form::Text { .. } | Form::CString | Form::Buffer { .. } => text(out, memory),
        _ => form(out, to, Bytes::Copied(memory.bytes), 0, None),
    }
}

fn text(out: &mut impl Write, memory: Memory<'_>) -> fmt::Result {
    quote(out, memory.bytes, is_cut(&memory))
}

/// Whether there was more of it in the target.
pub(super) fn is_cut(memory: &Memory<'_>) -> bool {
    u64::from(memory.full_length) > memory.bytes.len() as u64
}

/// Of a struct that was not copied whole, the fields that are there.
fn structure(out: &mut impl Write, form: &Form, fields: &[Field], bytes: Bytes<'_>, offset: u32) -> fmt::Result {
    let copied =
        if let Bytes::Copied(bytes) = bytes { u32::try_from(bytes.len()).unwrap_or(u32::MAX) } else { u32::MAX };
    let is_there = |field: &&Field| offset.saturating_add(field.offset) < copied;
    let mut before = "{";
    for field in fields.iter().filter(is_there) {
        out.write_str(before)?;
        if !field.name.is_empty() {
            printable(out, &field.name)?;
            out.write_char('=')?;
        }
        self::form(out, &field.form, bytes, offset.saturating_add(field.offset), None)?;
        before = ", ";
    }
    match (form.size() > copied.saturating_sub(offset), before) {
        (false, "{") => out.write_str("{}"),
        (false, _) => out.write_char('}'),
        (true, before) => write!(out, "{before}...}}"),
    }
}

/// Up to the first zero; cut if there is none among those that are known.
fn chars(out: &mut impl Write, known: &[u8], size: u32) -> fmt::Result {
    let end = known.iter().position(|byte| *byte == 0);
    let cut = end.is_none() && (known.len() as u64) < u64::from(size);
    quote(out, known.get(..end.unwrap_or(known.len())).unwrap_or_default(), cut)
}

fn float(out: &mut impl Write, bytes: Bytes<'_>, offset: u32, size: u32) -> fmt::Result {
    match (size, bytes.number(offset, size)) {
        (4, Some(bits)) => write!(out, "{}", f32::from_bits(u32::try_from(bits).unwrap_or_default())),
        (8, Some(bits)) => write!(out, "{}", f64::from_bits(bits)),
        _ => out.write_char('?'),
    }
}

fn character(out: &mut impl Write, number: u64, signed: i64, unicode: bool) -> fmt::Result {
    match u32::try_from(number).ok().and_then(char::from_u32) {
        Some('\'') => out.write_str("'\\''"),
        Some(c) if c.is_ascii_graphic() || c == ' ' || (unicode && c.is_alphanumeric()) => write!(out, "'{c}'"),
        Some('\n') => out.write_str("'\\n'"),
        Some('\t') => out.write_str("'\\t'"),
        _ => write!(out, "{signed}"),
    }
}

/// The enumerator with this value, by whatever sign it was declared with.
pub(super) fn named(names: &[Named], signed: i64, unsigned: u64) -> Option<&str> {
    let found = names.iter().find(|named| named.value == signed || named.value == unsigned.cast_signed());
    found.map(|named| named.name.as_str())
}

/// `O_RDWR|O_CLOEXEC`; what has no name in hex.
pub(super) fn flags(out: &mut impl Write, names: &[Named], number: u64, value: u64) -> fmt::Result {
    let mut rest = value;
    let mut before = "";
    let part = value & number;
    let whole = |named: &&Named| named.value.cast_unsigned() == part && (number != 0 || value == 0);
    let of_number = |named: &&Named| named.value.cast_unsigned() & !number == 0;
    if let Some(named) = names.iter().filter(of_number).find(whole) {
        printable(out, &named.name)?;
        rest &= !number;
        before = "|";
    }
    for named in names.iter().filter(|named| !of_number(named)) {
        let bits = named.value.cast_unsigned();
        if bits != 0 && rest & bits == bits {
            out.write_str(before)?;
            printable(out, &named.name)?;
            rest &= !bits;
            before = "|";
        }
    }
    match (rest, before) {
        (0, "") => out.write_char('0'),
        (0, _) => Ok(()),
        _ => write!(out, "{before}{rest:#x}"),
    }
}

/// A name from debug information, which may hold anything.
fn printable(out: &mut impl Write, name: &str) -> fmt::Result {
    name.chars().try_for_each(|c| out.write_char(if c.is_control() { '?' } else { c }))
}
