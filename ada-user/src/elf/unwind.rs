//! Where functions start, by the unwind table that every C, C++ and Rust compiler writes even into stripped files.
//!
//! Invariant: "starts a function" is only said of an address at which the caller's return address lies on top of the
//! stack: a return probe overwrites that word, and anywhere else it would break the target.

use object::ReadRef;
use object::elf as raw;
use object::read::elf::ProgramHeader;

use super::Elf;

/// `DW_EH_PE_pcrel | DW_EH_PE_sdata4`, `DW_EH_PE_udata4`, `DW_EH_PE_datarel | DW_EH_PE_sdata4`: the encodings that
/// every linker uses in .eh_frame_hdr.
const HEADER: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
const HEADER_SIZE: u64 = 12;
/// Size of the parts of .eh_frame that are looked at; real entries have less than 100 bytes.
const MAX_ENTRY: u64 = 4096;

/// What the unwind table says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnwindStart {
    /// A function that is called starts here.
    Function,
    /// Code starts here that is jumped to, or that nothing returns from: a cold part, `_start`, a signal trampoline.
    Part,
    /// No entry starts here, or there is no table.
    Unknown,
}

impl Elf {
    /// Whether a function starts at a virtual address.
    #[must_use]
    pub fn unwind_start(&self, address: u64) -> UnwindStart {
        let Some(entry) = self.unwind_entry(address) else {
            return UnwindStart::Unknown;
        };
        match Entry::parse(self, entry).map(Entry::starts_as_called) {
            Some(true) => UnwindStart::Function,
            Some(false) => UnwindStart::Part,
            None => UnwindStart::Unknown,
        }
    }

    /// Whether there is a table that [`Self::unwind_start`] can look into.
    #[must_use]
    pub fn has_unwind_table(&self) -> bool {
        self.unwind_table().is_some()
    }

    /// Bytes of the code that starts at a virtual address, where no symbol tells; `None` if no entry starts there.
    #[must_use]
    pub fn unwind_size(&self, address: u64) -> Option<u64> {
        let entry = Entry::parse(self, self.unwind_entry(address)?)?;
        (entry.size > 0).then_some(entry.size)
    }

    /// Virtual addresses at which the table's entries start: of functions and of parts of them, in order.
    pub fn unwind_starts(&self) -> impl Iterator<Item = u64> {
        let (base, entries) = self.unwind_table().unwrap_or_default();
        entries.iter().map(move |entry| base.wrapping_add_signed(i64::from(read_i32(&entry[..4]))))
    }

    /// Virtual address of the frame description entry (FDE) of the code that starts at `address`.
    fn unwind_entry(&self, address: u64) -> Option<u64> {
        let (base, entries) = self.unwind_table()?;
        let at = |bytes: &[u8]| base.wrapping_add_signed(i64::from(read_i32(bytes)));
        let found = entries.binary_search_by_key(&address, |entry| at(&entry[..4])).ok()?;
        entries.get(found).map(|entry| at(&entry[4..]))
    }

    /// The virtual address that the entries of .eh_frame_hdr count from, and those: where code starts, and its FDE.
    fn unwind_table(&self) -> Option<(u64, &[[u8; 8]])> {
        let mut headers = self.program_headers().iter();
        let header = headers.find(|header| header.p_type(self.endian) == raw::PT_GNU_EH_FRAME)?;
        let (offset, size) = header.file_range(self.endian);
        let data = (&self.cache).read_bytes_at(offset, size).ok()?;
        if data.get(..4)? != HEADER {
            return None;
        }
        let table = data.get(usize::try_from(HEADER_SIZE).ok()?..)?;
        Some((header.p_vaddr(self.endian), table.as_chunks::<8>().0))
    }
}

/// A frame description entry (FDE).
struct Entry<'a> {
    cie: Cie,
    /// Bytes of code that it describes.
    size: u64,
    /// Its instructions.
    rules: Cursor<'a>,
}

impl<'a> Entry<'a> {
    fn parse(elf: &'a Elf, address: u64) -> Option<Self> {
        let mut fde = Cursor::of_entry(elf, address)?;
        let cie_distance = fde.u32()?;
        let cie = address.checked_add(4)?.checked_sub(u64::from(cie_distance))?;
        let cie = Cie::parse(Cursor::of_entry(elf, cie)?)?;
        fde.skip(cie.pointer_size)?;
        let size = fde.unsigned(cie.pointer_size)?;
        let augmentation = fde.uleb()?;
        fde.skip(augmentation)?;
        Some(Self { cie, size, rules: fde })
    }

    /// Whether it keeps the rules of its common entry (CFA = stack pointer + one word) at its first byte.
    fn starts_as_called(mut self) -> bool {
        // DW_CFA_nop, DW_CFA_advance_loc*: nothing changes before the first instruction has run.
        let at_rest = matches!(self.rules.u8(), None | Some(0x00..=0x04 | 0x40..=0x7f));
        at_rest && self.cie.called && !self.cie.signal_frame
    }
}

/// What an FDE takes from its common information entry.
struct Cie {
    pointer_size: u64,
    signal_frame: bool,
    /// Whether it begins as functions that are called do. What is jumped to with more on the stack (the loader's
    /// `_dl_runtime_resolve`) has a CIE of its own.
    called: bool,
}

impl Cie {
    fn parse(mut cursor: Cursor<'_>) -> Option<Self> {
        let (_id, _version) = (cursor.u32()?, cursor.u8()?);
        let augmentation = cursor.string()?;
        let (_code, _data, _return_register) = (cursor.uleb()?, cursor.uleb()?, cursor.uleb()?);
        let (mut pointer_size, mut signal_frame) = (8, false);
        if augmentation.first() != Some(&b'z') {
            return None;
        }
        let length = cursor.uleb()?;
        let mut data = Cursor { rest: cursor.take(usize::try_from(length).ok()?)? };
        for letter in &augmentation[1..] {
            match letter {
                b'R' => pointer_size = encoded_size(data.u8()?)?,
                b'P' => {
                    let size = encoded_size(data.u8()?)?;
                    data.skip(size)?;
                }
                b'L' => data.skip(1)?,
                b'S' => signal_frame = true,
                b'B' => {}
                _ => return None,
            }
        }
        Some(Self { pointer_size, signal_frame, called: begins_as_called(cursor) })
    }
}

/// Whether the rules that a CIE ends with are those of a call: the frame's address is rsp + 8 on x86_64, sp on arm64.
fn begins_as_called(mut rules: Cursor<'_>) -> bool {
    /// Register and offset.
    const CALLED: [(u64, u64); 2] = [(7, 8), (31, 0)];
    let mut frame = (0, 0);
    while let Some(operation) = rules.u8() {
        let known = match operation {
            // DW_CFA_nop
            0x00 => Some(()),
            // DW_CFA_def_cfa, DW_CFA_def_cfa_register, DW_CFA_def_cfa_offset
            0x0c => rules.uleb().zip(rules.uleb()).map(|both| frame = both),
            0x0d => rules.uleb().map(|register| frame.0 = register),
            0x0e => rules.uleb().map(|offset| frame.1 = offset),
            // DW_CFA_offset: where a register is, which does not matter here.
            0x80..=0xbf => rules.uleb().map(drop),
            _ => None,
        };
        if known.is_none() {
            return false;
        }
    }
    CALLED.contains(&frame)
}

/// Bytes of a pointer in a `DW_EH_PE_*` encoding.
fn encoded_size(encoding: u8) -> Option<u64> {
    match encoding & 0x0f {
        0x00 | 0x04 | 0x0c => Some(8),
        0x02 | 0x0a => Some(2),
        0x03 | 0x0b => Some(4),
        _ => None,
    }
}

fn read_i32(bytes: &[u8]) -> i32 {
    bytes.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes))
}

/// Reads forward through one entry of .eh_frame.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The bytes of the entry at a virtual address, behind its length.
    fn of_entry(elf: &'a Elf, address: u64) -> Option<Self> {
        let length = read_u32(elf.code(address, 4)?)?;
        let rest = elf.code(address.checked_add(4)?, u64::from(length).min(MAX_ENTRY))?;
        Some(Self { rest })
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        self.take(usize::try_from(count).ok()?).map(|_| ())
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        read_u32(self.take(4)?)
    }

    /// A little-endian number of 2, 4 or 8 bytes.
    fn unsigned(&mut self, size: u64) -> Option<u64> {
        let bytes = self.take(usize::try_from(size).ok()?)?;
        let mut word = [0; 8];
        word.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(u64::from_le_bytes(word))
    }

    /// A LEB128 number; signed ones are only skipped.
    fn uleb(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|&byte| byte == 0)?;
        let string = self.take(end)?;
        self.take(1)?;
        Some(string)
    }
}

fn read_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}
