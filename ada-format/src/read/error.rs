//! Why a file could not be read, or not be believed.
//!
//! Invariant: every variant names the file, and where a value was wrong, its offset, the value and the expected one.

use std::io;
use std::path::{Path, PathBuf};

use crate::manifest::ManifestError;

/// Why a session, or a part of it, could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused to open a file or folder.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file ends within its header.
    #[error("{} ends at byte {found}, within its header of {expected} bytes", path.display())]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its length, in bytes.
        found: u64,
        /// The header's length, in bytes.
        expected: u64,
    },
    /// The file became shorter after it was opened.
    #[error("{} was cut by somebody after it was opened: its end cannot be read any more", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
    },
    /// Four bytes that identify a part of the file are others.
    #[error(
        "{} at byte {offset}: found {:?}, expected {:?}",
        path.display(), found.escape_ascii().to_string(), expected.escape_ascii().to_string()
    )]
    Magic {
        /// The file.
        path: PathBuf,
        /// Where they are, in bytes from its start.
        offset: u64,
        /// What is there.
        found: [u8; 4],
        /// What should be.
        expected: [u8; 4],
    },
    /// The file is of another version of the format.
    #[error(
        "{} is of file version {found}, and this version reads {expected}{}",
        path.display(), if found > expected { ": read it with a newer ada-trace" } else { "" }
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u8,
        /// The one that is known.
        expected: u8,
    },
    /// A number in the file does not agree with the file or with this version of the format.
    #[error("{} at byte {offset}: {field} is {found}, expected {expected}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Where the number is, in bytes from the file's start.
        offset: u64,
        /// Its name.
        field: &'static str,
        /// What it says.
        found: u64,
        /// What it should say.
        expected: u64,
    },
    /// The events of a finalised file are not the ones its footer was written for.
    #[error("{} at byte {offset}: checksum is {found:#010x} of the footer's {expected:#010x}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Where the footer's checksum is, in bytes from the file's start.
        offset: u64,
        /// The checksum of the events in the file.
        found: u32,
        /// The footer's.
        expected: u32,
    },
    /// A detail event's length is impossible.
    #[error(
        "{} at byte {offset}: total_length of detail event {position} is {found}, expected {least} to {most}",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Where the event begins, in bytes from the file's start.
        offset: u64,
        /// The event's position.
        position: u64,
        /// Its total_length.
        found: u64,
        /// The least there can be.
        least: u64,
        /// Bytes that are left in the events section.
        most: u64,
    },
    /// Two linked events do not point at each other.
    #[error(
        "{}: index event {index_seq} and detail event {detail_seq} are linked, but {field} of the {side} event is \
         {found}, expected {expected}",
        path.display()
    )]
    Link {
        /// The thread's folder.
        path: PathBuf,
        /// Position of the index event.
        index_seq: u64,
        /// Position of the detail event.
        detail_seq: u64,
        /// `index` or `detail`: which one is wrong if the other is right.
        side: &'static str,
        /// What does not agree.
        field: &'static str,
        /// What it says.
        found: u64,
        /// What it should say.
        expected: u64,
    },
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Makes errors about one file.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a>(pub(super) &'a Path);

impl About<'_> {
    /// Fails unless `found` is `expected`.
    pub(super) fn check(self, field: &'static str, offset: u64, found: u64, expected: u64) -> Result<(), ReadError> {
        if found == expected {
            return Ok(());
        }
        Err(ReadError::Field { path: self.0.to_owned(), offset, field, found, expected })
    }

    /// Fails unless `found` is `expected`.
    pub(super) fn check_magic(self, offset: u64, found: [u8; 4], expected: [u8; 4]) -> Result<(), ReadError> {
        if found == expected {
            return Ok(());
        }
        Err(ReadError::Magic { path: self.0.to_owned(), offset, found, expected })
    }

    /// Fails unless the file's version is the known one.
    pub(super) fn check_version(self, found: u8, expected: u8) -> Result<(), ReadError> {
        if found == expected {
            return Ok(());
        }
        Err(ReadError::Version { path: self.0.to_owned(), found, expected })
    }

    /// Fails unless `bytes` have the footer's checksum.
    pub(super) fn check_checksum(self, bytes: &[u8], footer_offset: u64, expected: u32) -> Result<(), ReadError> {
        let found = crc32fast::hash(bytes);
        if found == expected {
            return Ok(());
        }
        Err(ReadError::Checksum { path: self.0.to_owned(), offset: footer_offset + 4, found, expected })
    }

    /// Fails if these are bytes of a mapped file of which some are not in the file any more.
    pub(super) fn check_intact(self, bytes: &[u8]) -> Result<(), ReadError> {
        if crate::map::is_cut(bytes) { Err(ReadError::Truncated { path: self.0.to_owned() }) } else { Ok(()) }
    }

    pub(super) fn too_short(self, bytes: &[u8]) -> ReadError {
        let expected = crate::layout::HEADER_SIZE as u64;
        ReadError::TooShort { path: self.0.to_owned(), found: bytes.len() as u64, expected }
    }
}
