//! What `ada-trace dump` prints of a session, for people and for programs.
//!
//! Invariant: what differs from run to run (times, ids, addresses) is left out of the text, and nothing else.

use std::path::Path;

use serde_json::Value;

use crate::recorder::ada;
use crate::scratch::Scratch;

/// Each event as an object.
///
/// # Panics
/// If the session cannot be printed.
#[must_use]
pub fn objects(folder: &Path) -> Vec<Value> {
    let out = printed(folder, &["--format", "jsonl"]);
    out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Calls, returns and signals, indented by their depth; every address above 4 GiB is `ADDRESS`.
///
/// # Panics
/// If the session cannot be printed.
#[must_use]
pub fn text(folder: &Path) -> String {
    let out = printed(folder, &[]);
    let mut lines = out.lines();
    let column = lines.next().and_then(|header| header.find("CALL")).expect("a header with the column of the calls");
    lines.map(|line| without_addresses(line.get(column..).expect("a call")) + "\n").collect()
}

fn printed(folder: &Path, options: &[&str]) -> String {
    let scratch = Scratch::new();
    let arguments = ["dump".as_ref(), folder.as_os_str()].into_iter().chain(options.iter().map(AsRef::as_ref));
    ada(&scratch, arguments).success().out
}

fn without_addresses(line: &str) -> String {
    let mut pieces = line.split("0x");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.bytes().take_while(u8::is_ascii_hexdigit).count();
        if digits > 8 {
            text += "ADDRESS";
            text += &piece[digits..];
        } else {
            text += "0x";
            text += piece;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_left_out_and_small_numbers_stay() {
        let line = "-> f(p=0x7ffc2a2e046c -> {a=0x2a}, q=0x55d000000000)";
        assert_eq!(without_addresses(line), "-> f(p=ADDRESS -> {a=0x2a}, q=ADDRESS)");
    }
}
