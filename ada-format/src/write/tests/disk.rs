//! A disk in memory that fails where a test wants it to.
//!
//! Invariant: a file has no holes, and what did not fit is not in it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use crate::layout::IndexEvent;
use crate::read::{DetailReader, IndexReader, ThreadReader};
use crate::write::{DETAIL_FILE, INDEX_FILE, Sink, Storage};

/// A disk with room for so many bytes.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) room: usize,
    pub(super) full: io::ErrorKind,
    /// The longest write that is done at once.
    pub(super) at_once: usize,
    /// Whether files can be cut.
    pub(super) cuts: bool,
    /// Bytes behind the header that can still be overwritten.
    pub(super) overwritable: usize,
    /// Whether after each write all detail that the index points at must be there.
    pub(super) in_order: bool,
}

impl Disk {
    fn check_order(&self) {
        let (Some(index), Some(detail)) = (self.files.get(INDEX_FILE), self.files.get(DETAIL_FILE)) else { return };
        let index = IndexReader::from_bytes(index.as_slice(), INDEX_FILE).expect("the index is readable");
        let detail = DetailReader::from_bytes(detail.as_slice(), DETAIL_FILE).expect("the detail is readable");
        let linked = index.events().iter().filter_map(IndexEvent::detail).max();
        assert!(linked.is_none_or(|linked| detail.get(linked).is_some()), "the index is ahead of the detail");
    }
}

#[derive(Clone, Debug)]
pub(super) struct RamDisk(pub(super) Rc<RefCell<Disk>>);

#[derive(Debug)]
pub(super) struct RamFile {
    disk: RamDisk,
    name: String,
}

impl RamDisk {
    pub(super) fn new(room: usize, full: io::ErrorKind, at_once: usize) -> Self {
        let files = BTreeMap::new();
        let disk = Disk { files, room, full, at_once, cuts: true, overwritable: usize::MAX, in_order: false };
        Self(Rc::new(RefCell::new(disk)))
    }

    pub(super) fn roomy() -> Self {
        Self::new(usize::MAX, io::ErrorKind::StorageFull, usize::MAX)
    }

    pub(super) fn set_room(&self, room: usize) {
        self.0.borrow_mut().room = room;
    }

    pub(super) fn thread(&self) -> ThreadReader<Vec<u8>> {
        let files = &self.0.borrow().files;
        let index = IndexReader::from_bytes(files[INDEX_FILE].clone(), INDEX_FILE).expect("the index is readable");
        let detail = files
            .get(DETAIL_FILE)
            .map(|bytes| DetailReader::from_bytes(bytes.clone(), DETAIL_FILE).expect("the detail is readable"));
        ThreadReader::from_parts(index, detail, "memory")
    }
}

impl Storage for RamDisk {
    type File = RamFile;

    fn create(&mut self, name: &str) -> io::Result<RamFile> {
        let old = self.0.borrow_mut().files.insert(name.to_owned(), Vec::new());
        assert!(old.is_none(), "{name} is created twice");
        Ok(RamFile { disk: self.clone(), name: name.to_owned() })
    }

    fn remove(&mut self, name: &str) {
        self.0.borrow_mut().files.remove(name);
    }

    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }
}

impl Sink for RamFile {
    fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.disk.0.borrow();
        let offset = usize::try_from(offset).expect("a small file");
        let there = disk.files[&self.name].get(offset..).unwrap_or_default();
        let count = bytes.len().min(there.len()).min(disk.at_once);
        bytes[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let disk = &mut *self.disk.0.borrow_mut();
        let used: usize = disk.files.values().map(Vec::len).sum();
        let file = disk.files.get_mut(&self.name).expect("the file is there");
        let offset = usize::try_from(offset).expect("a small file");
        assert!(offset <= file.len(), "no holes");
        let most = (file.len() - offset) + disk.room.saturating_sub(used);
        let mut count = bytes.len().min(most).min(disk.at_once);
        if (64..file.len()).contains(&offset) {
            count = count.min(disk.overwritable);
            disk.overwritable = disk.overwritable.saturating_sub(count);
        }
        if count == 0 {
            return Err(disk.full.into());
        }
        file.truncate(file.len().max(offset));
        let overwritten = count.min(file.len() - offset);
        file[offset..offset + overwritten].copy_from_slice(&bytes[..overwritten]);
        file.extend_from_slice(&bytes[overwritten..count]);
        if disk.in_order && offset > 0 {
            disk.check_order();
        }
        Ok(count)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).expect("a small file");
        if !self.disk.0.borrow().cuts {
            return Err(io::ErrorKind::Other.into());
        }
        self.disk.0.borrow_mut().files.get_mut(&self.name).expect("the file is there").resize(length, 0);
        Ok(())
    }
}
