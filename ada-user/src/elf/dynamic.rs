//! What the loader reads of a file: interpreter, names of the libraries it needs, where to look for them.
//!
//! Invariant: it comes from program headers alone, as for ld.so; sections may be missing.

use object::Endianness;
use object::ReadRef;
use object::elf::{self as raw, DynamicTag};
use object::read::elf::{Dyn, ProgramHeader};

use super::Elf;

/// No real file comes near: chromium has about a hundred.
const MAX_NEEDED: usize = 4096;
const MAX_STRINGS: u64 = 1 << 30;

/// The parts of `PT_DYNAMIC` and `PT_INTERP` that decide what gets loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// Path of the loader; `None` for libraries and for static programs.
    pub interpreter: Option<String>,
    /// The library's own name.
    pub soname: Option<String>,
    /// Names of the libraries that it needs, in order.
    pub needed: Vec<String>,
    /// Folders searched for this file and everything that it needs; ignored where there is a `runpath`.
    pub rpath: Option<String>,
    /// Folders searched for what this file needs itself.
    pub runpath: Option<String>,
    /// Neither the loader's cache nor its default folders are searched for what it needs (`DF_1_NODEFLIB`).
    pub no_default_folders: bool,
}

impl Elf {
    /// Reads what the loader would read.
    #[must_use]
    pub fn dynamic(&self) -> Dynamic {
        let mut dynamic = Dynamic { interpreter: self.interpreter(), ..Dynamic::default() };
        let strings = self.dynamic_strings().unwrap_or_default();
        for (tag, value) in self.dynamic_entries() {
            let text = || string_at(strings, value);
            match tag {
                raw::DT_NEEDED if dynamic.needed.len() < MAX_NEEDED => {
                    dynamic.needed.extend(text());
                }
                raw::DT_SONAME => dynamic.soname = text(),
                raw::DT_RPATH => dynamic.rpath = text(),
                raw::DT_RUNPATH => dynamic.runpath = text(),
                raw::DT_FLAGS_1 => {
                    dynamic.no_default_folders = value & raw::DF_1_NODEFLIB.0 != 0;
                }
                _ => {}
            }
        }
        dynamic
    }

    fn interpreter(&self) -> Option<String> {
        let mut headers = self.program_headers().iter();
        let path = headers.find_map(|header| header.interpreter(self.endian, &self.cache).ok().flatten())?;
        String::from_utf8(path.to_vec()).ok()
    }

    pub(super) fn dynamic_entries(&self) -> impl Iterator<Item = (DynamicTag, u64)> {
        let mut headers = self.program_headers().iter();
        let entries = headers.find_map(|header| header.dynamic(self.endian, &self.cache).ok().flatten());
        let entries: &[raw::Dyn64<Endianness>] = entries.unwrap_or_default();
        let pairs = entries.iter().map(|entry| (entry.d_tag(self.endian), entry.d_val(self.endian)));
        pairs.take_while(|&(tag, _)| tag != raw::DT_NULL)
    }

    fn dynamic_strings(&self) -> Option<&[u8]> {
        let value_of = |wanted| self.dynamic_entries().find(|&(tag, _)| tag == wanted).map(|(_, value)| value);
        let (address, size) = (value_of(raw::DT_STRTAB)?, value_of(raw::DT_STRSZ)?);
        let segment = self.segments.iter().find(|segment| segment.contains(address))?;
        let from = address - segment.address;
        let size = size.min(segment.file_size - from).min(MAX_STRINGS);
        (&self.cache).read_bytes_at(segment.offset.checked_add(from)?, size).ok()
    }
}

fn string_at(strings: &[u8], offset: u64) -> Option<String> {
    let rest = strings.get(usize::try_from(offset).ok()?..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    String::from_utf8(rest[..end].to_vec()).ok()
}
