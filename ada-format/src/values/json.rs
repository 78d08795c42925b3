//! Values for programs.
//!
//! Invariant: the same value always has the same shape. Numbers are numbers; strings are strings, or objects with
//! `text` and `full_length` if they were cut; pointers are objects with `address` (and `value`, if it was copied) or
//! null; enumerators and flags are their names; structs are objects, arrays are arrays. What cannot be read is left out.

use serde_json::{Map, Value as Json, json};

use super::observed::{Bytes, Moment, Observed};
use super::present;
use super::text::{flags, is_cut, named};
use crate::manifest::{Field, Form, Named, Signature, Value};
use crate::write::Memory;

/// What [`values`] calls what was given back.
pub const RETURN: &str = "return";

/// Arguments of a call by name, or what it gave back as `return`. A parameter without a name is called `arg0`, …, by its
/// position.
#[must_use]
pub fn values(signature: &Signature, observed: &Observed<'_>) -> Vec<(String, Json)> {
    if observed.moment == Moment::Return {
        let value = signature.returns.as_ref().and_then(|value| top(value, observed));
        return value.map(|value| (RETURN.to_owned(), value)).into_iter().collect();
    }
    let named = |(index, name): (usize, &str)| if name.is_empty() { format!("arg{index}") } else { name.to_owned() };
    let parameters = present(signature, observed).enumerate();
    parameters
        .filter_map(|(index, parameter)| Some((named((index, &parameter.name)), top(&parameter.value, observed)?)))
        .collect()
}

fn top(value: &Value, observed: &Observed<'_>) -> Option<Json> {
    form(&value.form, observed.of(value), 0, observed.slot(value.slot))
}

fn form(form: &Form, bytes: Bytes<'_>, offset: u32, memory: Option<Memory<'_>>) -> Option<Json> {
    let size = form.size();
    let number = || bytes.number(offset, size);
    let signed = || bytes.signed(offset, size);
    Some(match form {
        Form::Pointer { to } => pointer(to.as_deref(), bytes.number(offset, 8)?, memory),
        Form::Reference { to } => match memory {
            Some(memory) => pointed(to, memory)?,
            None => pointer(None, bytes.number(offset, 8)?, None),
        },
        Form::CString | Form::Buffer { .. } => match memory {
            Some(memory) if bytes.number(offset, 8) != Some(0) => text(memory),
            _ => pointer(None, bytes.number(offset, 8)?, None),
        },
        Form::Text { pointer: at, length } => match memory {
            Some(memory) => text(memory),
            None if bytes.number(offset.saturating_add(*length), 8) == Some(0) => json!(""),
            None => pointer(None, bytes.number(offset.saturating_add(*at), 8)?, None),
        },
        Form::Struct { fields, .. } if fields.iter().all(|field| field.name.is_empty()) => {
            let element = |field: &Field| self::form(&field.form, bytes, offset.saturating_add(field.offset), None);
            Json::Array(fields.iter().filter_map(element).collect())
        }
        Form::Struct { fields, .. } => {
            let field = |field: &Field| {
                let value = self::form(&field.form, bytes, offset.saturating_add(field.offset), None)?;
                Some((field.name.clone(), value))
            };
            Json::Object(fields.iter().filter_map(field).collect::<Map<_, _>>())
        }
        Form::Chars { size } => {
            let known = bytes.known(offset, *size);
            json!(String::from_utf8_lossy(known.split(|byte| *byte == 0).next().unwrap_or_default()))
        }
        Form::Float { size: 4 } => json!(f32::from_bits(u32::try_from(number()?).ok()?)),
        Form::Float { size: 8 } => json!(f64::from_bits(number()?)),
        Form::Signed { size: 0..=8 } => json!(signed()?),
        Form::Unsigned { size: 0..=8 } | Form::Octal { .. } => json!(number()?),
        Form::Bool { .. } => json!(number()? != 0),
        Form::Char { size: 1 } => json!(signed()?),
        Form::Char { .. } => json!(char::from_u32(u32::try_from(number()?).ok()?)?.to_string()),
        Form::Enum { names, .. } => enumerator(names, signed()?, number()?),
        Form::Flags { names, number: part, .. } => {
            let mut names_of_bits = String::new();
            flags(&mut names_of_bits, names, *part, number()?).ok()?;
            json!(names_of_bits)
        }
        Form::Signed { .. } | Form::Unsigned { .. } | Form::Float { .. } | Form::Opaque { .. } | Form::Unknown => {
            return None;
        }
    })
}

fn enumerator(names: &[Named], signed: i64, number: u64) -> Json {
    named(names, signed, number).map_or_else(|| json!(signed), |name| json!(name))
}

fn pointer(to: Option<&Form>, address: u64, memory: Option<Memory<'_>>) -> Json {
    if address == 0 {
        return Json::Null;
    }
    let mut object = Map::new();
    object.insert("address".to_owned(), json!(format!("{address:#x}")));
    if let Some(value) = to.zip(memory).and_then(|(to, memory)| pointed(to, memory)) {
        object.insert("value".to_owned(), value);
    }
    Json::Object(object)
}

fn pointed(to: &Form, memory: Memory<'_>) -> Option<Json> {
    match to {
        Form::Text { .. } | Form::CString | Form::Buffer { .. } => Some(text(memory)),
        _ => form(to, Bytes::Copied(memory.bytes), 0, None),
    }
}

fn text(memory: Memory<'_>) -> Json {
    let text = String::from_utf8_lossy(memory.bytes);
    if is_cut(&memory) { json!({ "text": text, "full_length": memory.full_length }) } else { json!(text) }
}
