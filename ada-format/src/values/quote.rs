//! Bytes as a quoted string.
//!
//! Invariant: one line that cannot move a terminal's cursor, and from which the bytes can be told.

use std::fmt::{self, Write};

/// Writes `bytes` in double quotes with C's escapes; UTF-8 as it is. `cut` puts `...` behind the quotes.
///
/// # Errors
/// Those of `out`.
pub fn quote(out: &mut impl Write, bytes: &[u8], cut: bool) -> fmt::Result {
    out.write_char('"')?;
    let mut rest = bytes;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            rest = rest.get(character.len_utf8()..).unwrap_or_default();
            escape(out, character, rest.first().copied())?;
        }
        for byte in chunk.invalid() {
            rest = rest.get(1..).unwrap_or_default();
            octal(out, *byte, rest.first().copied())?;
        }
    }
    out.write_str(if cut { "\"..." } else { "\"" })
}

fn escape(out: &mut impl Write, character: char, next: Option<u8>) -> fmt::Result {
    match character {
        '"' => out.write_str("\\\""),
        '\\' => out.write_str("\\\\"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\x0b' => out.write_str("\\v"),
        '\x0c' => out.write_str("\\f"),
        // The C1 controls and what turns the direction of writing have no one-byte form; so all their bytes are.
        c if c.is_control() || is_format(c) => {
            let mut buffer = [0; 4];
            let bytes = c.encode_utf8(&mut buffer).as_bytes();
            let following = bytes.iter().skip(1).copied().map(Some).chain([next]);
            bytes.iter().zip(following).try_for_each(|(byte, next)| octal(out, *byte, next))
        }
        c => out.write_char(c),
    }
}

/// As short as it can be: three digits only if another digit follows.
fn octal(out: &mut impl Write, byte: u8, next: Option<u8>) -> fmt::Result {
    if next.is_some_and(|next| next.is_ascii_digit()) { write!(out, "\\{byte:03o}") } else { write!(out, "\\{byte:o}") }
}

/// Invisible characters that change how a line looks.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
