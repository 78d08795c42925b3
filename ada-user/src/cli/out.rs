//! A buffer before stdout, for millions of lines: numbers are written without formatting machinery.
//!
//! Invariant: nothing is allocated per line once the buffer has grown, and only whole lines are handed on.

use std::io::{self, Write};

/// Bytes that are held back before they are handed on.
const HELD_BACK: usize = 128 * 1024;
/// The two digits of each number below 100.
const PAIRS: [[u8; 2]; 100] = pairs();
/// As many as are copied at once.
const SPACES: [u8; 64] = [b' '; 64];

/// Lines on their way to `W`.
#[derive(Debug)]
pub(super) struct Out<W: Write> {
    sink: W,
    buffer: Vec<u8>,
}

impl<W: Write> Out<W> {
    /// Writes to `sink`.
    pub(super) fn new(sink: W) -> Self {
        Self { sink, buffer: Vec::with_capacity(HELD_BACK + 4096) }
    }

    /// Text as it is.
    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Text as it is.
    #[inline]
    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A decimal number.
    #[inline]
    pub(super) fn number(&mut self, number: u64) {
        let mut digits = [0; 20];
        let start = decimal(number, &mut digits);
        self.bytes(&digits[start..]);
    }

    /// A number in hexadecimal, with `0x`.
    pub(super) fn hex(&mut self, number: u64) {
        self.text("0x");
        self.hex_digits(number, (16 - number.leading_zeros() as usize / 4).max(1));
    }

    /// Two hexadecimal digits for each byte.
    pub(super) fn hex_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hex_digits((*byte).into(), 2);
        }
    }

    /// Seconds with nine decimals; the whole ones in at least `width` places, a sign included.
    #[inline]
    pub(super) fn seconds(&mut self, negative: bool, nanoseconds: u64, width: usize) {
        let mut digits = [0; 20];
        let start = decimal(nanoseconds / 1_000_000_000, &mut digits);
        self.spaces(width.saturating_sub(digits.len() - start + usize::from(negative)));
        if negative {
            self.text("-");
        }
        self.bytes(&digits[start..]);
        let mut fraction = [b'0'; 20];
        decimal(nanoseconds % 1_000_000_000, &mut fraction);
        fraction[10] = b'.';
        self.bytes(&fraction[10..]);
    }

    /// Blanks.
    #[inline]
    pub(super) fn spaces(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let now = left.min(SPACES.len());
            self.bytes(&SPACES[..now]);
            left -= now;
        }
    }

    /// Ends the line.
    ///
    /// # Errors
    /// The sink's.
    #[inline]
    pub(super) fn end_line(&mut self) -> io::Result<()> {
        self.buffer.push(b'\n');
        if self.buffer.len() >= HELD_BACK { self.hand_on() } else { Ok(()) }
    }

    /// Hands on what there is, for somebody who waits for it.
    ///
    /// # Errors
    /// The sink's.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.hand_on()?;
        self.sink.flush()
    }

    /// Hands on what is left.
    ///
    /// # Errors
    /// The sink's.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.hand_on()?;
        self.sink.flush()
    }

    #[cold]
    fn hand_on(&mut self) -> io::Result<()> {
        self.sink.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn hex_digits(&mut self, number: u64, count: usize) {
        for place in (0..count).rev() {
            let digit = (number >> (4 * place)) & 0xf;
            self.buffer.push(b"0123456789abcdef"[digit as usize]);
        }
    }
}

/// For what brings its own formatting.
impl<W: Write> std::fmt::Write for Out<W> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}

/// Writes a number to the end of `digits` and returns where it begins; what lies before stays as it was.
#[inline]
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> usize {
    let mut at = digits.len();
    while number >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
    if number >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[number as usize]);
    } else {
        at -= 1;
        digits[at] = b'0' + number as u8;
    }
    at
}

const fn pairs() -> [[u8; 2]; 100] {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number as usize] = [b'0' + number / 10, b'0' + number % 10];
        number += 1;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Out<&mut Vec<u8>>)) -> String {
        let mut bytes = Vec::new();
        let mut out = Out::new(&mut bytes);
        write(&mut out);
        out.finish().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn numbers() {
        for number in [0, 9, 10, 99, 100, 101, 12_345, 1 << 32, u64::MAX] {
            assert_eq!(written(|out| out.number(number)), number.to_string());
            assert_eq!(written(|out| out.hex(number)), format!("{number:#x}"));
        }
        assert_eq!(written(|out| out.hex_bytes(&[0, 0x7f, 0xa5])), "007fa5");
    }

    #[test]
    fn seconds() {
        let text = |negative, ns, width| written(|out| out.seconds(negative, ns, width));
        assert_eq!(text(false, 0, 1), "0.000000000");
        assert_eq!(text(false, 1, 3), "  0.000000001");
        assert_eq!(text(true, 1_500_000_000, 4), "  -1.500000000");
        assert_eq!(text(false, 12_345_678_901, 2), "12.345678901");
        assert_eq!(text(false, u64::MAX, 0), "18446744073.709551615");
    }

    #[test]
    fn blanks_and_lines() {
        assert_eq!(written(|out| out.spaces(150)), " ".repeat(150));
        let long = "x".repeat(1000);
        let text = written(|out| (0..500).for_each(|_| (out.text(&long), out.end_line().unwrap()).1));
        assert_eq!(text, format!("{long}\n").repeat(500));
    }

    proptest::proptest! {
        #[test]
        fn any_number(number: u64) {
            proptest::prop_assert_eq!(written(|out| out.number(number)), number.to_string());
        }
    }
}
