//! A buffer before a writer, for millions of small pieces.
//!
//! Invariant: nothing is allocated per piece once the buffer has grown, and every byte handed on is counted.

use std::io::{self, Write};

/// Bytes that are held back before they are handed on.
const HELD_BACK: usize = 128 * 1024;

/// Pieces on their way to `W`.
#[derive(Debug)]
pub(super) struct Out<W: Write> {
    sink: W,
    buffer: Vec<u8>,
    handed_on: u64,
}

impl<W: Write> Out<W> {
    /// Writes to `sink`.
    pub(super) fn new(sink: W) -> Self {
        Self { sink, buffer: Vec::with_capacity(HELD_BACK + 4096), handed_on: 0 }
    }

    /// Text as it is.
    #[inline]
    pub(super) fn text(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    /// A decimal number.
    #[inline]
    pub(super) fn number(&mut self, number: impl itoa::Integer) {
        self.text(itoa::Buffer::new().format(number));
    }

    /// Nanoseconds as a number of units of `scale` nanoseconds, a power of ten, with as many decimals as that has zeros.
    pub(super) fn decimal(&mut self, nanoseconds: u64, scale: u64) {
        self.number(nanoseconds / scale);
        self.text(".");
        let (mut rest, mut place) = (nanoseconds % scale, scale / 10);
        while place > 0 {
            self.number(rest / place);
            rest %= place;
            place /= 10;
        }
    }

    /// Text as a JSON string.
    pub(super) fn json(&mut self, text: &str) {
        // Never fails: the buffer takes everything.
        let _ = serde_json::to_writer(&mut self.buffer, text);
    }

    /// The buffer, to append to.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// A piece is whole: hands on what is there if that is much.
    ///
    /// # Errors
    /// The sink's.
    #[inline]
    pub(super) fn piece(&mut self) -> io::Result<()> {
        if self.buffer.len() >= HELD_BACK { self.hand_on() } else { Ok(()) }
    }

    /// Hands on what is left, and returns how many bytes there were.
    ///
    /// # Errors
    /// The sink's.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.hand_on()?;
        self.sink.flush()?;
        Ok(self.handed_on)
    }

    #[cold]
    fn hand_on(&mut self) -> io::Result<()> {
        self.sink.write_all(&self.buffer)?;
        self.handed_on += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for (nanoseconds, scale, want) in
            [(0, 1000, "0.000"), (1_234_567, 1000, "1234.567"), (1_000_005, 1_000_000, "1.000005")]
        {
            let mut bytes = Vec::new();
            let mut out = Out::new(&mut bytes);
            out.decimal(nanoseconds, scale);
            assert_eq!(out.finish().unwrap(), want.len() as u64);
            assert_eq!(String::from_utf8(bytes).unwrap(), want);
        }
    }
}
