//! Sections of debug information, unpacked; and the file that `dwz` moved what several files share into.
//!
//! Invariant: a section is as long as it says or is not there; a supplementary file is used only if its build-id is the
//! one that was asked for.

use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection};

use super::debug_file::DEBUG_ROOT;
use super::{Elf, debug_file};

/// The largest debug files have a few GiB in one section.
const MAX_SECTION: u64 = 8 << 30;

impl Elf {
    /// Whether it has debug information.
    #[must_use]
    pub fn has_debug_info(&self) -> bool {
        let has = |name: &[u8]| self.sections().is_some_and(|s| s.section_by_name(self.endian, name).is_some());
        has(b".debug_info") || has(b".zdebug_info")
    }

    /// The content of a debug section such as `.debug_info`, unpacked; empty if there is none or if it is damaged.
    #[must_use]
    pub fn debug_section(&self, name: &str) -> Vec<u8> {
        let section = || {
            let file = ElfFile64::<Endianness, _>::parse(&self.cache).ok()?;
            let section = file.section_by_name(name)?;
            let packed = section.compressed_data().ok()?;
            if packed.uncompressed_size > MAX_SECTION {
                return None;
            }
            Some(packed.decompress().ok()?.into_owned())
        };
        section().unwrap_or_default()
    }

    /// Whether numbers in it are little-endian.
    #[must_use]
    pub fn is_little_endian(&self) -> bool {
        self.endian == Endianness::Little
    }

    /// Whether `other` is of the same build, so that addresses in the one are addresses in the other.
    #[must_use]
    pub fn is_same_build(&self, other: &Self) -> bool {
        debug_file::same_build(self, other)
    }

    /// Opens the supplementary file that `.gnu_debugaltlink` names. `root` is the target's root folder.
    #[must_use]
    pub fn open_supplement(&self, root: &Path) -> Option<Self> {
        let (path, id) = self.supplement()?;
        let beside = self.path().parent().unwrap_or(Path::new("/")).join(&path);
        let below = |root: &Path| {
            let (first, rest) = id.split_at_checked(2)?;
            Some(root.join(DEBUG_ROOT).join(".build-id").join(first).join(format!("{rest}.debug")))
        };
        let inside = root.join(path.strip_prefix("/").unwrap_or(&path));
        let candidates = [Some(inside), Some(beside), below(root), below(Path::new("/"))];
        let mut files = candidates.into_iter().flatten().filter_map(|path| Self::open(&path).ok());
        files.find(|file| file.build_id().as_deref() == Some(id.as_str()))
    }

    /// Path and build-id of the supplementary file.
    fn supplement(&self) -> Option<(PathBuf, String)> {
        let data = self.debug_section(".gnu_debugaltlink");
        let end = data.iter().position(|byte| *byte == 0)?;
        let path = std::str::from_utf8(data.get(..end)?).ok()?;
        let id: String = data.get(end + 1..)?.iter().map(|byte| format!("{byte:02x}")).collect();
        Some((PathBuf::from(path), id))
    }
}
