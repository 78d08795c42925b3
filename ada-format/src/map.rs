//! The bytes of a file, for readers: mapped if the file is large, copied if it is small.
//!
//! Invariant: with `map/sigbus.rs` the one place with `unsafe` in this crate. A view is as long as the file was when it was
//! opened; if the file is cut after that, what is gone reads as zeros and [`is_cut`] says so.

mod live;
mod sigbus;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use memmap2::Mmap;

use self::live::Watched;

/// Below this a copy costs less than a mapping, of which a process may have only some 65 000.
const MAPPED_FROM: u64 = 32 * 1024;

/// A file's bytes.
#[derive(Debug)]
pub struct FileBytes(Kind);

#[derive(Debug)]
enum Kind {
    /// Is forgotten before it is unmapped.
    Mapped(#[expect(dead_code, reason = "what it does is done by dropping it")] Watched, Mmap),
    Copied(Box<[u8]>),
}

impl FileBytes {
    /// Opens a file for reading; it is closed again before this returns.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if length < MAPPED_FROM {
            return Ok(Self(Kind::Copied(copy(&file, length)?)));
        }
        // SAFETY: the mapping is private to this value, read-only, and no reference to it outlives the value. What
        // the type system cannot see is that other processes may change the file. Bytes that change under a reader
        // are possible only in a file that is not finalised, beyond what its recorder has reported as written, or
        // when somebody damages it on purpose: the recorder appends; it rewrites the header once, of which readers
        // take a copy; and it sets an index event's `detail_seq`, a number of four bytes, once from none. A reader
        // may see either or a mixture, and looks up none of them without checking. A file that somebody cuts while it
        // is mapped reads as zeros from there on, by way of SIGBUS (`sigbus.rs`); a recorder cuts only what a failed
        // write has left behind, and `recover` works only on sessions nobody records.
        #[expect(unsafe_code, reason = "there is no safe way to map a file")]
        let map = unsafe { Mmap::map(&file)? };
        sigbus::install();
        let bytes = map.as_ptr_range();
        Ok(Self(Kind::Mapped(Watched::new(bytes.start.expose_provenance(), bytes.end.addr()), map)))
    }
}

/// Whether these bytes are a mapped file's that was found to be shorter than it was.
#[inline]
pub(crate) fn is_cut(bytes: &[u8]) -> bool {
    live::is_cut(bytes)
}

/// Reads at most `length` bytes: what a growing file gains meanwhile is left out.
fn copy(file: &File, length: u64) -> io::Result<Box<[u8]>> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes.into_boxed_slice())
}

impl AsRef<[u8]> for FileBytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Kind::Mapped(_, map) => map,
            Kind::Copied(bytes) => bytes,
        }
    }
}
