//! The bytes of a table, without the file around it.
//!
//! Invariant: every offset is checked; a table that lies gives fewer functions.

use super::GoFunction;

const WORD: usize = 8;
/// Names of types that have no name of their own are long; those of functions that use them, too.
const MAX_NAME: usize = 1 << 16;
/// Functions may share a name, but not all of them a long one: so much is read of names, in sizes of the table.
const NAME_BUDGET: usize = 8;
/// Data that the linker puts in front of the code, with an entry of its own.
const NO_CODE: [&str; 2] = ["go.buildid", "go:buildid"];

/// The layouts, by the first version of Go that wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Go12,
    Go116,
    /// And 1.20, whose magic number alone is new.
    Go118,
}

/// What entries of functions count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextStart {
    /// They are addresses.
    Absolute,
    /// They count from `runtime.text`.
    Header {
        /// Its address; not to be relied on in position-independent programs.
        address: u64,
        /// Where the address stands, in bytes from the start of the table.
        field: u64,
    },
}

/// A table whose header makes sense.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    layout: Layout,
    /// Bytes of an instruction at least.
    quantum: u64,
    /// Function table; the offsets of records count from it too, except in 1.2.
    functions: &'a [u8],
    names: &'a [u8],
    pc_tables: &'a [u8],
}

impl<'a> Table<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let layout = match u32_at(bytes, 0)? {
            0xffff_fffb => Layout::Go12,
            0xffff_fffa => Layout::Go116,
            0xffff_fff0 | 0xffff_fff1 => Layout::Go118,
            _ => return None,
        };
        let &[0, 0, quantum @ (1 | 2 | 4), 8] = bytes.get(4..8)? else {
            return None;
        };
        // What the n-th word behind the magic number leads to.
        let part = |n: usize| bytes.get(usize::try_from(u64_at(bytes, n * WORD)?).ok()?..);
        let (names, pc_tables, functions) = match layout {
            Layout::Go12 => (bytes, bytes, bytes.get(2 * WORD..)?),
            Layout::Go116 => (part(3)?, part(6)?, part(7)?),
            Layout::Go118 => (part(4)?, part(7)?, part(8)?),
        };
        let count = usize::try_from(u64_at(bytes, WORD)?).ok()?;
        let size = count.checked_mul(2)?.checked_add(1)?.checked_mul(layout.number())?;
        (count > 0 && size <= functions.len()).then_some(())?;
        let quantum = u64::from(quantum);
        Some(Self { bytes, layout, quantum, functions, names, pc_tables })
    }

    pub(super) fn text_start(&self) -> TextStart {
        let field = 3 * WORD;
        match (self.layout, u64_at(self.bytes, field)) {
            (Layout::Go118, Some(address)) => TextStart::Header { address, field: field as u64 },
            _ => TextStart::Absolute,
        }
    }

    /// Addresses of all functions.
    pub(super) fn starts(&self, text: u64) -> impl Iterator<Item = u64> {
        self.entries(text).map(|(start, _, _)| start)
    }

    /// The functions with `runtime.text` at `text`; those whose first or last byte `is_code` denies are left out.
    pub(super) fn functions(&self, text: u64, is_code: impl Fn(u64, u64) -> bool) -> Vec<GoFunction<'a>> {
        let mut budget = self.bytes.len().saturating_mul(NAME_BUDGET);
        let mut functions = Vec::new();
        let mut behind = 0;
        for (address, end, record) in self.entries(text) {
            // Ascending and in the code: so the steps of all `code_size` together are no more than its bytes.
            if address < behind || end <= address || !is_code(address, end - 1) {
                continue;
            }
            behind = end;
            let Some(record) = self.record(record) else { continue };
            let Some(name) = self.name(record, &mut budget).filter(|name| !NO_CODE.contains(name)) else {
                continue;
            };
            let size = self.code_size(record, end - address).unwrap_or(end - address);
            functions.push(GoFunction { name, address, size });
        }
        functions
    }

    /// (start, start of the next one, offset of the record) of each function.
    fn entries(&self, text: u64) -> impl Iterator<Item = (u64, u64, u64)> {
        let number = self.layout.number();
        let at = move |index: usize| match self.layout {
            Layout::Go118 => u32_at(self.functions, index * number).map(u64::from),
            Layout::Go12 | Layout::Go116 => u64_at(self.functions, index * number),
        };
        let address = move |index| at(index).map(|entry| entry.wrapping_add(text));
        // The count was checked against the bytes, but they go on behind the table.
        let count = u64_at(self.bytes, WORD).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        (0..count).map_while(move |n| Some((address(2 * n)?, address(2 * n + 2)?, at(2 * n + 1)?)))
    }

    /// From the field behind the record's entry on.
    fn record(&self, offset: u64) -> Option<&'a [u8]> {
        let base = if self.layout == Layout::Go12 { self.bytes } else { self.functions };
        let entry = if self.layout == Layout::Go118 { 4 } else { 8 };
        base.get(usize::try_from(offset).ok()?.checked_add(entry)?..)
    }

    fn name(&self, record: &[u8], budget: &mut usize) -> Option<&'a str> {
        let from = self.names.get(usize::try_from(u32_at(record, 0)?).ok()?..)?;
        let longest = from.len().min(MAX_NAME).min(*budget);
        let end = from.get(..longest)?.iter().position(|&byte| byte == 0);
        *budget -= end.map_or(longest, |end| end + 1);
        std::str::from_utf8(from.get(..end?)?).ok().filter(|name| !name.is_empty())
    }

    /// Where the table of the function's stack sizes ends; the linker pads between functions.
    fn code_size(&self, record: &[u8], span: u64) -> Option<u64> {
        let offset = usize::try_from(u32_at(record, 12)?).ok()?;
        let mut rest = self.pc_tables.get(offset..).filter(|_| offset > 0)?;
        let mut size = 0_u64;
        // Pairs of (change of value, distance in quanta); a change of 0 ends them, except in the first.
        while varint(&mut rest)? != 0 || size == 0 {
            let distance = u64::from(varint(&mut rest)?).checked_mul(self.quantum)?;
            size = size.checked_add(distance)?;
            if distance == 0 || size > span {
                return None;
            }
        }
        Some(size)
    }
}

impl Layout {
    /// Bytes of a number in the function table.
    fn number(self) -> usize {
        if self == Self::Go118 { 4 } else { 8 }
    }
}

fn varint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for shift in (0..32).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
