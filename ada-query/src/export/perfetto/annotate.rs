//! Values as debug annotations.
//!
//! Invariant: every JSON value has one annotation; a pointer is shown as one.

use serde_json::Value as Json;

use super::proto::DebugAnnotation;
use crate::export::values::Values;

/// Values deeper than this are text.
const DEEPEST: u32 = 8;

/// Values by their names.
pub(super) fn of_values(values: &Values) -> Vec<(&str, DebugAnnotation)> {
    match values {
        Values::Typed(values) => values.iter().map(|(name, value)| (name.as_str(), of_json(value, 0))).collect(),
        Values::Registers(registers) => registers.iter().map(|(name, value)| (*name, pointer(*value))).collect(),
    }
}

/// What was given back.
pub(super) fn of_returned(values: &Values) -> Vec<(String, DebugAnnotation)> {
    match values {
        Values::Typed(values) => values.iter().map(|(name, value)| (name.clone(), of_json(value, 0))).collect(),
        // Some registers held an argument before.
        Values::Registers(registers) => {
            registers.iter().map(|(name, value)| (format!("return.{name}"), pointer(*value))).collect()
        }
    }
}

/// A text.
pub(super) fn text(text: &str) -> DebugAnnotation {
    DebugAnnotation { string_value: Some(text.to_owned()), ..DebugAnnotation::default() }
}

/// A number.
pub(super) fn number(number: u64) -> DebugAnnotation {
    DebugAnnotation { uint_value: Some(number), ..DebugAnnotation::default() }
}

/// An address, or a register's bits.
pub(super) fn pointer(address: u64) -> DebugAnnotation {
    DebugAnnotation { pointer_value: Some(address), ..DebugAnnotation::default() }
}

fn of_json(value: &Json, depth: u32) -> DebugAnnotation {
    let none = DebugAnnotation::default();
    match value {
        _ if depth > DEEPEST => text(&value.to_string()),
        Json::Null => pointer(0),
        Json::Bool(value) => DebugAnnotation { bool_value: Some(*value), ..none },
        Json::Number(value) => match (value.as_u64(), value.as_i64()) {
            (Some(value), _) => number(value),
            (None, Some(value)) => DebugAnnotation { int_value: Some(value), ..none },
            (None, None) => DebugAnnotation { double_value: value.as_f64(), ..none },
        },
        Json::String(value) => text(value),
        Json::Array(values) => {
            DebugAnnotation { array_values: values.iter().map(|value| of_json(value, depth + 1)).collect(), ..none }
        }
        Json::Object(fields) => {
            if let (Some(Json::String(address)), 1) = (fields.get("address"), fields.len())
                && let Some(address) = address.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok())
            {
                return pointer(address);
            }
            let field = |(name, value): (&String, &Json)| DebugAnnotation {
                name: Some(name.clone()),
                ..of_json(value, depth + 1)
            };
            DebugAnnotation { dict_entries: fields.iter().map(field).collect(), ..none }
        }
    }
}
