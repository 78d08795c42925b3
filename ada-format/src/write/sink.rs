//! Where writers put their bytes: a file, or a test's stand-in for one that fails.
//!
//! Invariant: a sink never moves bytes by itself; every write names its offset.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A file as a writer sees it.
pub trait Sink {
    /// Reads some bytes from `offset` into `bytes` and says how many, like pread(2).
    ///
    /// # Errors
    /// The system's.
    fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some of `bytes` at `offset` and says how many, like pwrite(2).
    ///
    /// # Errors
    /// The system's; nothing was written then.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Cuts the file to `length` bytes.
    ///
    /// # Errors
    /// The system's.
    fn set_len(&mut self, length: u64) -> io::Result<()>;
}

impl Sink for File {
    fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        Self::set_len(self, length)
    }
}

/// Where a thread's files are created.
pub trait Storage {
    /// What it creates.
    type File: Sink;

    /// Creates the file `name`, which must not exist.
    ///
    /// # Errors
    /// The system's.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    /// Removes the file `name` again, whose header could not be written.
    fn remove(&mut self, name: &str);

    /// The path that errors name `name` by.
    fn path(&self, name: &str) -> PathBuf;
}

/// A thread's folder on disk.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl Storage for Folder {
    type File = File;

    fn create(&mut self, name: &str) -> io::Result<File> {
        // Never to append: writes behind the last one would then go there, whatever their offset.
        fs::OpenOptions::new().read(true).write(true).create_new(true).open(self.path(name))
    }

    fn remove(&mut self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}
