//! /proc/PID/maps.
//!
//! Invariant: pure text; a line that does not parse is left out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::elf::Mapping;

const DELETED: &[u8] = b" (deleted)";

/// All mappings of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MappedFile {
    /// Path as the process sees it; the name that it had, if it is deleted.
    pub(super) path: PathBuf,
    /// Whether the line ends in ` (deleted)`.
    pub(super) deleted: bool,
    /// Device number as stat(2) would give it, unless the file system has its own idea (btrfs, overlayfs).
    pub(super) device: u64,
    /// Inode number.
    pub(super) inode: u64,
    /// In the order of their addresses.
    pub(super) mappings: Vec<Mapping>,
}

/// The files that have an executable mapping, in the order of their first one.
pub(super) fn parse(maps: &[u8]) -> Vec<MappedFile> {
    let mut files: Vec<MappedFile> = Vec::new();
    let mut index_of: BTreeMap<(u64, u64, PathBuf), usize> = BTreeMap::new();
    for line in maps.split(|&byte| byte == b'\n').filter_map(parse_line) {
        let key = (line.device, line.inode, line.path.clone());
        let index = *index_of.entry(key).or_insert(files.len());
        match files.get_mut(index) {
            Some(file) => file.mappings.extend(line.mappings),
            None => files.push(line),
        }
    }
    files.retain(|file| file.mappings.iter().any(|mapping| mapping.executable));
    files
}

/// `7f0c1a000000-7f0c1a028000 r-xp 00028000 fe:00 1234567    /usr/lib/libc.so.6`, if it maps a file.
fn parse_line(line: &[u8]) -> Option<MappedFile> {
    let mut rest = line;
    let mut field = || {
        let trimmed = rest.trim_ascii_start();
        let end = trimmed.iter().position(|&byte| byte == b' ').unwrap_or(trimmed.len());
        let (field, after) = trimmed.split_at(end);
        rest = after;
        std::str::from_utf8(field).ok()
    };
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?;
    let offset = hex(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let inode: u64 = field()?.parse().ok()?;
    let path = rest.trim_ascii_start();
    if inode == 0 || !path.starts_with(b"/") {
        return None;
    }
    let mapping = Mapping { start: hex(start)?, end: hex(end)?, offset, executable: permissions.contains('x') };
    let device = rustix::fs::makedev(u32::try_from(hex(major)?).ok()?, u32::try_from(hex(minor)?).ok()?);
    let plain = path.strip_suffix(DELETED);
    let path = PathBuf::from(OsString::from_vec(unescape(plain.unwrap_or(path))));
    Some(MappedFile { path, deleted: plain.is_some(), device, inode, mappings: vec![mapping] })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// The kernel writes a newline in a path as `\012`, and nothing else so.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        match rest.strip_prefix(b"\\012") {
            Some(after) => {
                plain.push(b'\n');
                rest = after;
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55c316d2a000-55c316d2c000 r--p 00000000 fe:00 247030                     /usr/bin/cat
55c316d2c000-55c316d31000 r-xp 00002000 fe:00 247030                     /usr/bin/cat
55c31734d000-55c31736e000 rw-p 00000000 00:00 0                          [heap]
7f1cc4a00000-7f1cc4ceb000 r--p 00000000 fe:00 270301                     /usr/lib/locale/locale-archive
7f1cc4d00000-7f1cc4d01000 r-xp 00001000 fe:100 7                         /tmp/a b\\012c.so (deleted)
7f1cc4d01000-7f1cc4d02000 r-xp 00000000 00:00 0 
7ffd5a1f9000-7ffd5a1fb000 r-xp 00000000 00:00 0                          [vdso]
garbage
";

    #[test]
    fn groups_executable_files() {
        let files = parse(MAPS.as_bytes());
        let paths: Vec<_> = files.iter().map(|file| file.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/usr/bin/cat", "/tmp/a b\nc.so"]);
        assert_eq!(files[0].mappings.len(), 2);
        assert!(!files[0].deleted && files[1].deleted);
        assert_eq!((files[0].device, files[0].inode), (rustix::fs::makedev(0xfe, 0), 247_030));
        assert_eq!(files[1].device, rustix::fs::makedev(0xfe, 0x100));
        let text = Mapping { start: 0x55c3_16d2_c000, end: 0x55c3_16d3_1000, offset: 0x2000, executable: true };
        assert_eq!(files[0].mappings[1], text);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
