//! The board that the fixture `ticker` keeps: how many calls are complete, and when each was.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};

use crate::wait;

/// Offsets in the file, in bytes; see `fixtures/ticker.c`.
const PID: u64 = 0;
const STOP: u64 = 8;
const COMPLETE: u64 = 16;
const CAPACITY: u64 = 24;
const TIMES: u64 = 32;

/// The file that a ticker maps.
#[derive(Debug)]
pub struct Board {
    path: PathBuf,
    file: File,
}

impl Board {
    /// A new one in `folder`, for a ticker that is yet to be started; any user may write it.
    ///
    /// # Panics
    /// If the file cannot be made.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("board");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("a file");
        Self { path, file }
    }

    /// The ticker's first argument.
    ///
    /// # Panics
    /// If the path is not UTF-8.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.to_str().expect("a path in UTF-8")
    }

    /// The ticker's process id.
    ///
    /// # Panics
    /// If it never starts.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let pid = wait::until("the ticker runs", || Some(self.word(PID)).filter(|pid| *pid != 0));
        u32::try_from(pid).expect("a process id")
    }

    /// How many calls are complete.
    #[must_use]
    pub fn complete(&self) -> u64 {
        self.word(COMPLETE)
    }

    /// Waits until `more` calls are complete than are now.
    pub fn advance(&self, more: u64) {
        let enough = self.complete() + more;
        wait::until("the ticker makes its calls", || (self.complete() >= enough).then_some(()));
    }

    /// When call `number` was complete, in ns of CLOCK_BOOTTIME.
    ///
    /// # Panics
    /// If it is not complete, or the board keeps no times that far.
    #[must_use]
    pub fn time_ns(&self, number: u64) -> u64 {
        assert!(number < self.complete() && number < self.word(CAPACITY), "the board has no time of call {number}");
        self.word(TIMES + 8 * number)
    }

    /// Tells the ticker to end.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn stop(&self) {
        self.file.write_all_at(&1_u64.to_ne_bytes(), STOP).expect("the board");
    }

    fn word(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        // A ticker that has not mapped the file yet has not lengthened it either.
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => u64::from_ne_bytes(bytes),
            Err(_) => 0,
        }
    }
}

/// The time now, in ns of CLOCK_BOOTTIME.
///
/// # Panics
/// Not before year 2554.
#[must_use]
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).expect("since boot") * 1_000_000_000 + u64::try_from(now.tv_nsec).expect("below 10^9")
}
