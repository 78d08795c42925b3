//! One client of the server: the bytes of its request so far, and those of the answer that it has not taken yet.
//!
//! Invariant: neither grows beyond a line, however fast or slow the client is, and nothing here blocks.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    time::Instant,
};

use super::protocol::{MAX_LINE, Reply};

/// A client.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    /// When it came, said something or took something, last.
    pub(super) heard: Instant,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Nothing more is read: it goes as soon as it has its answer.
    closing: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, heard: Instant::now(), input: Vec::new(), output: Vec::new(), closing: false }
    }

    /// Whether an answer waits for the client to take it. Until then its next request waits, too.
    pub(super) fn is_writing(&self) -> bool {
        !self.output.is_empty()
    }

    /// Reads what is there, answers whole lines and hands out what can be handed out. False if the client is gone or done.
    pub(super) fn turn(&mut self, answer: &mut dyn FnMut(&[u8]) -> Reply) -> bool {
        self.heard = Instant::now();
        if !self.is_writing() && !self.closing && self.fill().is_err() {
            return false;
        }
        loop {
            if self.hand_out().is_err() {
                return false;
            }
            if self.is_writing() {
                return true;
            }
            match self.take_line() {
                Some(line) => self.output = answer(&line).line().into_bytes(),
                None if self.input.len() > MAX_LINE => self.refuse(),
                None => return !self.closing,
            }
        }
    }

    /// Reads one line's worth at most.
    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 4096];
        while self.input.len() <= MAX_LINE {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.closing = true;
                    return Ok(());
                }
                Ok(count) => self.input.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn hand_out(&mut self) -> io::Result<()> {
        while self.is_writing() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|byte| *byte == b'\n')?;
        let mut line: Vec<u8> = self.input.drain(..=end).collect();
        line.pop();
        Some(line)
    }

    /// A line without an end.
    fn refuse(&mut self) {
        self.input.clear();
        self.closing = true;
        let kilobytes = MAX_LINE >> 10;
        self.output = Reply::error(format!("a request is one line of at most {kilobytes} KiB")).line().into_bytes();
    }
}
