//! One line of nm's output or of a perf map.
//!
//! Invariant: pure text; a line is a function, or known to be none, or an error.

use super::NamedFunction;
use crate::elf::split_version;

/// nm pads addresses to this many digits, perf maps pad nothing: so is `0000000000004010 b counter` told from a
/// function of 11 bytes.
const PADDED: usize = 16;

/// nm's letters for what may be code: local, global, weak, picked at run time, unique.
const FUNCTIONS: &str = "tTwWiu";

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    name: Box<str>,
    pub(super) address: u64,
    size: u64,
    ifunc: bool,
}

impl Line {
    pub(super) fn function(&self) -> NamedFunction<'_> {
        NamedFunction { name: &self.name, address: self.address, size: self.size, ifunc: self.ifunc }
    }
}

/// The function of a line; none if it is blank, or nm's line of a variable or an import.
pub(super) fn parse(line: &str) -> Result<Option<Line>, &'static str> {
    let (first, rest) = word(line);
    if first.is_empty() || is_import(line) {
        return Ok(None);
    }
    let address = hex(first).ok_or("it does not begin with an address")?;
    let (second, behind_second) = word(rest);
    let (third, behind_third) = word(behind_second);
    let padded = |word: &str| word.len() >= PADDED;
    match (hex(second), symbol_type(second), symbol_type(third)) {
        (None, Some(kind), _) => of_nm(address, 0, kind, behind_second),
        (Some(_), Some(kind), _) if padded(first) => of_nm(address, 0, kind, behind_second),
        (Some(size), _, Some(kind)) if padded(second) || FUNCTIONS.contains(kind) && !behind_third.is_empty() => {
            of_nm(address, size, kind, behind_third)
        }
        (Some(size), _, _) => function(behind_second, address, size, false).map(Some),
        (None, None, _) => Err("its address is followed by neither a size nor a type"),
    }
}

/// `                 U puts`, `                 w __cxa_finalize`.
fn is_import(line: &str) -> bool {
    let (first, rest) = word(line);
    line.starts_with(' ') && matches!(first, "U" | "w" | "v") && !rest.is_empty()
}

fn of_nm(address: u64, size: u64, kind: char, name: &str) -> Result<Option<Line>, &'static str> {
    let (name, _) = split_version(name);
    if FUNCTIONS.contains(kind) { function(name, address, size, kind == 'i').map(Some) } else { Ok(None) }
}

fn function(name: &str, address: u64, size: u64, ifunc: bool) -> Result<Line, &'static str> {
    match name {
        "" => Err("it has no name"),
        name => Ok(Line { name: name.into(), address, size, ifunc }),
    }
}

/// The first word of a text, and what follows it, without the white space around.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// nm's letter for what a symbol is.
fn symbol_type(word: &str) -> Option<char> {
    let mut letters = word.chars();
    let letter = letters.next().filter(|letter| letter.is_ascii_alphabetic() || matches!(letter, '?' | '-'))?;
    letters.next().is_none().then_some(letter)
}

fn hex(word: &str) -> Option<u64> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    digits.starts_with(|first: char| first.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?
}
