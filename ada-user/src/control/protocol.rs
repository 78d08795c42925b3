//! The lines that go over the socket: one JSON object each, `{"command":"mark","text":"here"}` one way and
//! `{"reply":"marked","at_ns":7}` the other.
//!
//! Invariant: an unknown command or a wrong field is an error that names it, never something half done.

use serde::{Deserialize, Serialize};

use super::Command;
use crate::trigger::{Trigger, TriggerError};

/// The most bytes of a mark's text: all of them are kept.
const MAX_TEXT: usize = 1 << 10;
/// The most bytes of one line.
pub(super) const MAX_LINE: usize = 64 << 10;

/// A request as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Keep the details around this moment.
    Mark {
        /// Why, in the user's words.
        #[serde(default)]
        text: String,
    },
    /// Arm a trigger.
    AddTrigger {
        /// As for `--trigger`.
        trigger: String,
    },
    /// Disarm a trigger.
    RemoveTrigger {
        /// Its number.
        id: u32,
    },
    /// List the armed triggers.
    ListTriggers {},
    /// Tell how the recording stands.
    Status {},
    /// End the recording.
    Stop {},
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// To a mark.
    Marked {
        /// Its time, `CLOCK_BOOTTIME` in nanoseconds.
        at_ns: u64,
    },
    /// To a new trigger.
    Added {
        /// Its number.
        id: u32,
        /// Functions that fire it so far.
        functions: u64,
    },
    /// To a trigger's removal.
    Removed {
        /// As it was typed.
        trigger: String,
    },
    /// The armed triggers.
    Triggers {
        /// In the order of their numbers.
        triggers: Vec<TriggerInfo>,
    },
    /// How the recording stands.
    Status(Status),
    /// The recording is about to end.
    Stopping,
    /// Nothing was done.
    Error {
        /// Why, as a sentence.
        error: String,
    },
}

/// An armed trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerInfo {
    /// Its number.
    pub id: u32,
    /// As it was typed.
    pub trigger: String,
    /// Functions that fire it so far, if functions do.
    pub functions: u64,
    /// How often it has fired.
    pub fired: u64,
}

/// How a recording stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Events recorded.
    pub events: u64,
    /// Events lost.
    pub lost: u64,
    /// Details written.
    pub details: u64,
    /// Windows so far.
    pub windows: u64,
    /// Whether details are being written now.
    pub window_open: bool,
    /// Details in the buffer.
    pub buffered: u64,
    /// Bytes of them.
    pub buffered_bytes: u64,
    /// Size of the buffer.
    pub buffer_bytes: u64,
}

impl Reply {
    /// Nothing was done, because of `error`.
    #[must_use]
    pub fn error(error: impl std::fmt::Display) -> Self {
        Self::Error { error: error.to_string() }
    }

    /// The recorder is past answering.
    pub(super) fn ended() -> Self {
        Self::error("the recording has ended")
    }

    /// As a line, with its end.
    pub(super) fn line(&self) -> String {
        line(self)
    }
}

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Something for the pump.
    Command(Command),
    /// A trigger, whose functions are to be looked up first.
    AddTrigger(Box<Trigger>),
    /// The end of the recording.
    Stop,
}

impl Wish {
    /// Reads a line.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Reply> {
        let complaint = |error: serde_json::Error| Reply::error(format!("this is no request: {error}"));
        Ok(Self::Command(match serde_json::from_slice(line).map_err(complaint)? {
            Request::Mark { text } if text.len() > MAX_TEXT => {
                return Err(Reply::error(format!("a mark's text may be {MAX_TEXT} bytes long, not {}", text.len())));
            }
            Request::Mark { text } => Command::Mark { text },
            Request::AddTrigger { trigger } => {
                let refusal = |error: TriggerError| Reply::error(error);
                return Ok(Self::AddTrigger(Box::new(trigger.parse().map_err(refusal)?)));
            }
            Request::RemoveTrigger { id } => Command::RemoveTrigger(id),
            Request::ListTriggers {} => Command::ListTriggers,
            Request::Status {} => Command::Status,
            Request::Stop {} => return Ok(Self::Stop),
        }))
    }
}

impl Request {
    /// As a line, with its end.
    pub(super) fn line(&self) -> String {
        line(self)
    }
}

fn line(value: &impl Serialize) -> String {
    // Maps with keys of text and plain numbers: that cannot fail.
    let mut line = serde_json::to_string(value).unwrap_or_default();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Wish, Reply> {
        Wish::parse(line.as_bytes())
    }

    #[test]
    fn requests() {
        let mark = |text: &str| Ok(Wish::Command(Command::Mark { text: text.to_owned() }));
        let table = [
            (r#"{"command":"mark"}"#, mark("")),
            (r#" { "text": "a\nb", "command": "mark" } "#, mark("a\nb")),
            (r#"{"command":"add-trigger","trigger":"exit"}"#, Ok(Wish::AddTrigger(Box::new("exit".parse().unwrap())))),
            (r#"{"command":"remove-trigger","id":3}"#, Ok(Wish::Command(Command::RemoveTrigger(3)))),
            (r#"{"command":"list-triggers"}"#, Ok(Wish::Command(Command::ListTriggers))),
            (r#"{"command":"status"}"#, Ok(Wish::Command(Command::Status))),
            (r#"{"command":"stop"}"#, Ok(Wish::Stop)),
        ];
        for (line, expected) in table {
            assert_eq!(parse(line), expected, "{line}");
        }
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let table = [
            ("", "EOF"),
            ("mark", "expected value"),
            ("{}", "command"),
            (r#"{"command":"explode"}"#, "explode"),
            (r#"{"command":"mark","txt":"a"}"#, "txt"),
            (r#"{"command":"remove-trigger","id":"x"}"#, "u32"),
            (r#"{"command":"add-trigger","trigger":"sometimes"}"#, "'sometimes' is no trigger"),
            (r#"{"command":"stop","now":true}"#, "now"),
        ];
        for (line, part) in table {
            let Err(Reply::Error { error }) = parse(line) else { panic!("{line} was taken") };
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn lines_come_back() {
        let status = Status { events: 7, window_open: true, ..Status::default() };
        for reply in [Reply::Status(status), Reply::Stopping, Reply::error("a\nb"), Reply::Marked { at_ns: u64::MAX }] {
            let line = reply.line();
            assert_eq!(line.find('\n'), Some(line.len() - 1));
            assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), reply);
        }
        let request = Request::Mark { text: "here".to_owned() };
        assert_eq!(request.line(), "{\"command\":\"mark\",\"text\":\"here\"}\n");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(line in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Wish::parse(&line);
        }
    }
}
