//! /etc/ld.so.cache, where glibc's loader finds libraries by name.
//!
//! ```text
//! old header "ld.so-1.7.0\0" nlibs, nlibs * { flags, key, value }     (only before glibc 2.32; padded to 8 bytes)
//! new header "glibc-ld.so.cache1.1" nlibs len_strings flags pad[3] extension_offset unused[3]
//!            nlibs * { flags i32, key u32, value u32, osversion u32, hwcap u64 }   key, value: offsets of strings
//!            strings
//!            extensions { magic, count, count * { tag, flags, offset, size } }     tag 1: names of glibc-hwcaps
//! ```
//! (glibc: sysdeps/generic/dl-cache.h.) Offsets count from the new header; in a file with the old header alone, from
//! behind its entries.
//!
//! Invariant: any bytes can be parsed; what does not fit is left out.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0\0";
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const NEW_HEADER: usize = 48;
const NEW_ENTRY: usize = 24;
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
const TAG_HWCAPS: u32 = 1;
/// Marks `hwcap` as an index into the names of glibc-hwcaps.
const HWCAP_EXTENSION: u64 = 1 << 62;

/// One library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    /// Its file name, such as `libc.so.6`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The processor level that it needs, such as `x86-64-v3`; for the bits that old glibc used instead, `legacy`.
    pub level: Option<String>,
}

/// The libraries that the loader knows, in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    entries: Vec<CacheEntry>,
    by_name: HashMap<String, Vec<usize>>,
}

impl Cache {
    /// Reads the file; a missing one has no entries.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        Self::parse(&std::fs::read(path).unwrap_or_default())
    }

    /// Parses the content of the file.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let entries = parse_entries(bytes).unwrap_or_default();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            by_name.entry(entry.name.clone()).or_default().push(index);
        }
        Self { entries, by_name }
    }

    /// All of them.
    #[must_use]
    pub fn entries(&self) -> &[CacheEntry] {
        &self.entries
    }

    /// Where a library of this file name is, the best first on a machine that has these processor levels (best first).
    #[must_use]
    pub fn lookup(&self, name: &str, levels: &[&str]) -> Vec<&Path> {
        let indexes = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        let ranked = indexes.iter().filter_map(|&index| {
            let entry = self.entries.get(index)?;
            let rank = match &entry.level {
                None => levels.len(),
                Some(level) => levels.iter().position(|known| known == level)?,
            };
            Some((rank, entry.path.as_path()))
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by_key(|&(rank, _)| rank);
        ranked.into_iter().map(|(_, path)| path).collect()
    }
}

fn parse_entries(bytes: &[u8]) -> Option<Vec<CacheEntry>> {
    if bytes.starts_with(NEW_MAGIC) {
        return parse_new(bytes);
    }
    if !bytes.starts_with(OLD_MAGIC) {
        return None;
    }
    let count = usize::try_from(u32_at(bytes, OLD_MAGIC.len())?).ok()?;
    let end = count.checked_mul(OLD_ENTRY)?.checked_add(OLD_HEADER)?;
    let new = bytes.get(end.checked_next_multiple_of(8)?..).unwrap_or_default();
    if new.starts_with(NEW_MAGIC) { parse_new(new) } else { parse_old(bytes, end) }
}

fn parse_old(bytes: &[u8], end: usize) -> Option<Vec<CacheEntry>> {
    let (entries, strings) = (bytes.get(OLD_HEADER..end)?, bytes.get(end..)?);
    let entries = entries.as_chunks::<OLD_ENTRY>().0.iter();
    Some(entries.filter_map(|entry| parse_entry(strings, entry, None)).collect())
}

fn parse_new(bytes: &[u8]) -> Option<Vec<CacheEntry>> {
    let count = usize::try_from(u32_at(bytes, NEW_MAGIC.len())?).ok()?;
    let available = bytes.get(NEW_HEADER..)?;
    let entries = available.as_chunks::<NEW_ENTRY>().0.iter().take(count);
    let levels = parse_levels(bytes).unwrap_or_default();
    let parse = |entry: &[u8; NEW_ENTRY]| {
        let hwcap = entry.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        parse_entry(bytes, entry, level_of(hwcap, &levels))
    };
    Some(entries.filter_map(parse).collect())
}

fn parse_entry(strings: &[u8], entry: &[u8], level: Option<String>) -> Option<CacheEntry> {
    let name = String::from_utf8(string_at(strings, u32_at(entry, 4)?)?.to_vec()).ok()?;
    let path = PathBuf::from(OsString::from_vec(string_at(strings, u32_at(entry, 8)?)?.to_vec()));
    (!name.is_empty() && path.is_absolute()).then_some(CacheEntry { name, path, level })
}

fn level_of(hwcap: u64, levels: &[String]) -> Option<String> {
    if hwcap == 0 {
        return None;
    }
    let legacy = || "legacy".to_owned();
    if hwcap & HWCAP_EXTENSION == 0 {
        return Some(legacy());
    }
    let index = usize::try_from(hwcap & u64::from(u32::MAX)).ok();
    Some(index.and_then(|index| levels.get(index)).cloned().unwrap_or_else(legacy))
}

/// The names of glibc-hwcaps in the extension area.
fn parse_levels(bytes: &[u8]) -> Option<Vec<String>> {
    let extension = usize::try_from(u32_at(bytes, 32)?).ok()?;
    let area = bytes.get(extension..).filter(|_| extension != 0)?;
    if u32_at(area, 0)? != EXTENSION_MAGIC {
        return None;
    }
    let sections = area.get(8..)?.as_chunks::<16>().0.iter().take(usize::try_from(u32_at(area, 4)?).ok()?);
    let mut hwcaps = sections.filter(|section| u32_at(*section, 0) == Some(TAG_HWCAPS));
    let section = hwcaps.next()?;
    let offset = usize::try_from(u32_at(section, 8)?).ok()?;
    let size = usize::try_from(u32_at(section, 12)?).ok()?;
    let offsets = bytes.get(offset..offset.checked_add(size)?)?.as_chunks::<4>().0.iter();
    let name = |offset: &[u8; 4]| {
        let name = string_at(bytes, u32::from_le_bytes(*offset)).unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    };
    Some(offsets.map(name).collect())
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn string_at(bytes: &[u8], offset: u32) -> Option<&[u8]> {
    let rest = bytes.get(usize::try_from(offset).ok()?..)?;
    rest.iter().position(|&byte| byte == 0).map(|end| &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache in the new format of (name, path, hwcap), with two levels.
    fn new_format(libraries: &[(&str, &str, u64)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let base = NEW_HEADER + libraries.len() * NEW_ENTRY;
        let mut add = |text: &str| {
            let at = base + strings.len();
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            u32::try_from(at).unwrap()
        };
        let levels = [add("x86-64-v2"), add("x86-64-v3")];
        let mut entries = Vec::new();
        for (name, path, hwcap) in libraries {
            for field in [0x303, add(name), add(path), 0] {
                entries.extend_from_slice(&field.to_le_bytes());
            }
            entries.extend_from_slice(&hwcap.to_le_bytes());
        }
        let extension = u32::try_from((base + strings.len()).next_multiple_of(4)).unwrap();
        let mut bytes = NEW_MAGIC.to_vec();
        bytes.extend_from_slice(&u32::try_from(libraries.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(strings.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&[2, 0, 0, 0]);
        bytes.extend_from_slice(&extension.to_le_bytes());
        bytes.resize(NEW_HEADER, 0);
        bytes.extend(entries);
        bytes.extend(strings);
        bytes.resize(extension as usize, 0);
        for field in [EXTENSION_MAGIC, 1, TAG_HWCAPS, 0, extension + 24, 8, levels[0], levels[1]] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn old_format(libraries: &[(&str, &str)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let mut bytes = OLD_MAGIC.to_vec();
        bytes.extend_from_slice(&u32::try_from(libraries.len()).unwrap().to_le_bytes());
        for text in libraries.iter().map(|&(name, path)| [name, path]) {
            bytes.extend_from_slice(&3_u32.to_le_bytes());
            for text in text {
                bytes.extend_from_slice(&u32::try_from(strings.len()).unwrap().to_le_bytes());
                strings.extend_from_slice(text.as_bytes());
                strings.push(0);
            }
        }
        bytes.extend(strings);
        bytes
    }

    const V2: u64 = HWCAP_EXTENSION;
    const V3: u64 = HWCAP_EXTENSION | 1;

    fn sample() -> Vec<u8> {
        new_format(&[
            ("libz.so.1", "/lib/libz.so.1", 0),
            ("libz.so.1", "/lib/v2/libz.so.1", V2),
            ("libz.so.1", "/lib/v3/libz.so.1", V3),
            ("liby.so.1", "/lib/liby.so.1", 0),
            ("libx.so.1", "/lib/tls/libx.so.1", 1 << 32),
        ])
    }

    #[test]
    fn best_level_first() {
        let cache = Cache::parse(&sample());
        assert_eq!(cache.entries().len(), 5);
        let paths = |name, levels: &[&str]| -> Vec<String> {
            cache.lookup(name, levels).into_iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(paths("libz.so.1", &[]), ["/lib/libz.so.1"]);
        assert_eq!(paths("libz.so.1", &["x86-64-v2"]), ["/lib/v2/libz.so.1", "/lib/libz.so.1"]);
        let best = ["/lib/v3/libz.so.1", "/lib/v2/libz.so.1", "/lib/libz.so.1"];
        assert_eq!(paths("libz.so.1", &["x86-64-v3", "x86-64-v2"]), best);
        assert_eq!(paths("libx.so.1", &["x86-64-v2"]), [""; 0]);
        assert_eq!(paths("libq.so.1", &[]), [""; 0]);
    }

    #[test]
    fn old_header_alone_and_before_the_new_one() {
        let libraries = [("libz.so.1", "/lib/libz.so.1"), ("liby.so.1", "/lib/liby.so.1")];
        let old = Cache::parse(&old_format(&libraries));
        assert_eq!(old.lookup("liby.so.1", &[]), [Path::new("/lib/liby.so.1")]);
        let mut both = OLD_MAGIC.to_vec();
        both.extend_from_slice(&1_u32.to_le_bytes());
        both.extend_from_slice(&[0xff; OLD_ENTRY]);
        both.resize(both.len().next_multiple_of(8), 0);
        both.extend(sample());
        assert_eq!(Cache::parse(&both), Cache::parse(&sample()));
    }

    #[test]
    fn this_machine() {
        let cache = Cache::read(Path::new("/etc/ld.so.cache"));
        for entry in cache.entries() {
            assert_eq!(entry.path.file_name().and_then(|name| name.to_str()), Some(entry.name.as_str()));
        }
    }

    #[test]
    fn cut_anywhere() {
        let bytes = sample();
        for end in 0..bytes.len() {
            let _ = Cache::parse(&bytes[..end]);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_change(at in 0_usize..1000, value: u32, old: bool) {
            let mut bytes = if old { old_format(&[("a", "/a"), ("b", "/b")]) } else { sample() };
            let at = at % (bytes.len() - 4);
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let cache = Cache::parse(&bytes);
            proptest::prop_assert!(cache.entries().len() <= bytes.len() / OLD_ENTRY);
        }

        #[test]
        fn any_bytes(mut bytes: Vec<u8>, magic in 0..3) {
            let magic = [&b""[..], OLD_MAGIC, NEW_MAGIC][usize::try_from(magic).unwrap()];
            bytes.splice(0..0, magic.iter().copied());
            let _ = Cache::parse(&bytes);
        }
    }
}
