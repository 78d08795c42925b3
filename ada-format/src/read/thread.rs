//! A thread's folder: index and detail, and the links between them.
//!
//! Invariant: a link is followed only if it leads back. What is not in the file (its recorder was killed before it was
//! written) is `None`, what contradicts is an error.

use std::io;
use std::path::{Path, PathBuf};

use super::detail::{DetailEvent, DetailReader};
use super::error::ReadError;
use super::index::IndexReader;
use crate::layout::IndexEvent;
use crate::map::FileBytes;
use crate::write::{DETAIL_FILE, INDEX_FILE};

/// Reads one thread's folder.
///
/// The index is what counts: a thread whose detail file cannot be read is a thread without detail, and
/// [`detail_error`](Self::detail_error) says why.
#[derive(Debug)]
pub struct ThreadReader<B = FileBytes> {
    id: u32,
    folder: PathBuf,
    index: IndexReader<B>,
    detail: Option<DetailReader<B>>,
    detail_error: Option<ReadError>,
}

impl ThreadReader {
    /// Opens a folder; takes the same time for any length.
    ///
    /// # Errors
    /// [`ReadError`] if its index cannot be read.
    pub fn open(folder: &Path) -> Result<Self, ReadError> {
        let index = IndexReader::open(&folder.join(INDEX_FILE))?;
        // After the index: of a session that is being written, all detail that this index links to is there by now.
        let detail = DetailReader::open(&folder.join(DETAIL_FILE));
        let mut thread = Self::from_parts(index, None, folder);
        match detail {
            Ok(detail) => thread.detail = Some(detail),
            Err(ReadError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => thread.detail_error = Some(error),
        }
        Ok(thread)
    }
}

impl<B: AsRef<[u8]>> ThreadReader<B> {
    /// Joins the two files of the folder that errors call `folder`.
    #[must_use]
    pub fn from_parts(index: IndexReader<B>, detail: Option<DetailReader<B>>, folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        let id = crate::session::folder_id(&folder).unwrap_or_default();
        Self { id, folder, index, detail, detail_error: None }
    }

    /// The ordinal in the folder's name; 0 if it has none.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The operating system's thread id.
    #[must_use]
    pub fn tid(&self) -> u32 {
        self.index.header().thread_id.get()
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Every call and return.
    #[must_use]
    pub fn index(&self) -> &IndexReader<B> {
        &self.index
    }

    /// Registers and stacks, if there are any and they can be read.
    #[must_use]
    pub fn detail(&self) -> Option<&DetailReader<B>> {
        self.detail.as_ref()
    }

    /// Why the detail file cannot be read, if there is one that cannot.
    #[must_use]
    pub fn detail_error(&self) -> Option<&ReadError> {
        self.detail_error.as_ref()
    }

    /// Whether one of the files has no footer.
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.index.recovered() || self.detail.as_ref().is_some_and(DetailReader::recovered)
    }

    /// The detail of the index event at `index_seq`; `None` if there is no such event, it has no detail, or its detail
    /// was not written before the recorder was killed.
    ///
    /// # Errors
    /// [`ReadError::Link`] if the detail is another event's; [`ReadError`] if it should be there but the file is
    /// damaged; [`ReadError::Truncated`] if one of the files was cut.
    pub fn detail_of(&self, index_seq: u64) -> Result<Option<DetailEvent<'_>>, ReadError> {
        let Some(event) = self.index.get(index_seq) else {
            return Ok(None);
        };
        let (Some(seq), Some(detail)) = (event.detail(), &self.detail) else {
            return Ok(None);
        };
        let found = detail.get(seq);
        self.intact()?;
        let Some(found) = found else {
            detail.check_walk()?;
            return Ok(None);
        };
        let link = Link { folder: &self.folder, index_seq, detail_seq: seq.into() };
        link.check("detail", "index_seq", found.index_seq().into(), index_seq)?;
        link.check("detail", "timestamp", found.timestamp_ns(), event.timestamp_ns.get())?;
        Ok(Some(found))
    }

    /// The index event that the detail event at `detail_seq` belongs to; `None` if there is no such detail event, or
    /// the recorder was killed before it wrote the index event, or its link. Its position is the detail event's
    /// `index_seq`.
    ///
    /// # Errors
    /// [`ReadError::Link`] if that index event has other detail.
    pub fn index_of(&self, detail_seq: u32) -> Result<Option<&IndexEvent>, ReadError> {
        let Some(found) = self.detail.as_ref().and_then(|detail| detail.get(detail_seq)) else {
            return Ok(None);
        };
        let index_seq = u64::from(found.index_seq());
        let Some(event) = self.index.get(index_seq).filter(|event| event.detail().is_some()) else {
            return Ok(None);
        };
        let link = Link { folder: &self.folder, index_seq, detail_seq: detail_seq.into() };
        link.check("index", "detail_seq", event.detail_seq.get().into(), detail_seq.into())?;
        link.check("index", "timestamp", event.timestamp_ns.get(), found.timestamp_ns())?;
        Ok(Some(event))
    }

    /// Fails if one of the files was cut after it was opened, and somebody has read what was behind: that reads as zeros.
    /// To be asked after reading; costs next to nothing.
    ///
    /// # Errors
    /// [`ReadError::Truncated`].
    pub fn intact(&self) -> Result<(), ReadError> {
        self.index.intact()?;
        self.detail.as_ref().map_or(Ok(()), DetailReader::intact)
    }

    /// Compares both files with their checksums; reads all of them.
    ///
    /// # Errors
    /// [`ReadError`] with the value found and the one expected.
    pub fn verify(&self) -> Result<(), ReadError> {
        self.index.verify()?;
        self.detail.as_ref().map_or(Ok(()), DetailReader::verify)
    }
}

/// A link that is being followed.
struct Link<'a> {
    folder: &'a Path,
    index_seq: u64,
    detail_seq: u64,
}

impl Link<'_> {
    fn check(&self, side: &'static str, field: &'static str, found: u64, expected: u64) -> Result<(), ReadError> {
        if found == expected {
            return Ok(());
        }
        let Self { folder, index_seq, detail_seq } = *self;
        Err(ReadError::Link { path: folder.to_owned(), index_seq, detail_seq, side, field, found, expected })
    }
}
