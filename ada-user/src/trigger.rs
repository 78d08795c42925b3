//! What makes the flight recorder keep detail, as people type it: `symbol=libc:abort`, `slow=exe:handle>50ms`, `signal`,
//! `exit!=0`, `every=10s`; and how much around it, `5s` or `1000` events.
//!
//! Invariant: parsing is pure, and a trigger displays as the text that it was made from.

use std::{fmt, str::FromStr, time::Duration};

use crate::{
    spec::{ProbeSpec, SpecError},
    timespan::{self, TimespanError},
};

/// The most that a roll or an interval may be: every clock can add it.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The last real-time signal.
const LAST_SIGNAL: i32 = 64;

/// One `--trigger`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// As it was typed.
    pub text: String,
    /// When it fires.
    pub when: When,
}

/// When a trigger fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// One of these functions is called.
    Symbol(ProbeSpec),
    /// A call of one of these functions returns and took longer than that.
    Slow {
        /// The functions.
        spec: ProbeSpec,
        /// The time that is not yet slow.
        over: Duration,
    },
    /// One of these signals is delivered; with none named, any.
    Signal(Vec<i32>),
    /// A process ends.
    Exit(ExitTest),
    /// The time is up, again and again.
    Every(Duration),
}

/// What the end of a process must be like. The status is a shell's: 128 + N of a process that signal N killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitTest {
    /// Whatever it is.
    Any,
    /// This status.
    Is(i32),
    /// Any but this status.
    IsNot(i32),
}

impl ExitTest {
    /// Whether a process that ended with `status`, as wait(2) gives it, passes.
    #[must_use]
    pub fn passes(self, status: i32) -> bool {
        let shell = match status & 0x7f {
            0 => status >> 8 & 0xff,
            signal => 128 + signal,
        };
        match self {
            Self::Any => true,
            Self::Is(wanted) => shell == wanted,
            Self::IsNot(unwanted) => shell != unwanted,
        }
    }
}

/// Why a text is no trigger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TriggerError {
    /// None of the kinds.
    #[error(
        "'{text}' is no trigger: write symbol=LIB:FUNCTION, slow=LIB:FUNCTION>50ms, signal, signal=SIGSEGV, exit!=0 or every=10s"
    )]
    Unknown {
        /// As typed.
        text: String,
    },
    /// The function of `symbol=` or `slow=`.
    #[error("the trigger '{text}' names no function: {source}")]
    Spec {
        /// As typed.
        text: String,
        /// What is wrong with it.
        source: SpecError,
    },
    /// A `slow=` without its time.
    #[error("the trigger '{text}' does not say how slow: write the time last, as in slow=libc:read>50ms")]
    NoThreshold {
        /// As typed.
        text: String,
    },
    /// An `every=` without a time.
    #[error("the trigger '{text}' has no time: {source}")]
    Time {
        /// As typed.
        text: String,
        /// What is wrong with it.
        source: TimespanError,
    },
    /// An `every=` of nothing, or of centuries.
    #[error("the trigger '{text}' would fire always or never: write a time between 1ms and a century, as in every=10s")]
    Interval {
        /// As typed.
        text: String,
    },
    /// A `signal=` of something else.
    #[error(
        "the trigger '{text}' names the signal '{name}', which is none: write signal=SIGSEGV, signal=SEGV or signal=11, several with commas"
    )]
    Signal {
        /// As typed.
        text: String,
        /// What it calls a signal.
        name: String,
    },
    /// An `exit=` or `exit!=` of something else.
    #[error(
        "the trigger '{text}' compares with '{status}', which is no exit status: write a number from 0 to 255, as in exit!=0"
    )]
    ExitStatus {
        /// As typed.
        text: String,
        /// What it calls a status.
        status: String,
    },
}

impl FromStr for Trigger {
    type Err = TriggerError;

    fn from_str(text: &str) -> Result<Self, TriggerError> {
        let typed = text.trim();
        let when = if let Some(status) = typed.strip_prefix("exit!=") {
            When::Exit(ExitTest::IsNot(exit_status(status, typed)?))
        } else {
            match typed.split_once('=') {
                None if typed == "signal" => When::Signal(Vec::new()),
                None if typed == "exit" => When::Exit(ExitTest::Any),
                Some(("symbol", spec)) => When::Symbol(probe_spec(spec, typed)?),
                Some(("slow", rest)) => slow(rest, typed)?,
                Some(("signal", names)) => When::Signal(signals(names, typed)?),
                Some(("exit", status)) => When::Exit(ExitTest::Is(exit_status(status, typed)?)),
                Some(("every", time)) => When::Every(interval(time, typed)?),
                _ => return Err(TriggerError::Unknown { text: typed.to_owned() }),
            }
        };
        Ok(Self { text: typed.to_owned(), when })
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl When {
    /// The kind, as manifests name it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Symbol(_) => "symbol",
            Self::Slow { .. } => "slow",
            Self::Signal(_) => "signal",
            Self::Exit(_) => "exit",
            Self::Every(_) => "every",
        }
    }

    /// The functions that it waits for, if it waits for functions.
    #[must_use]
    pub fn spec(&self) -> Option<&ProbeSpec> {
        match self {
            Self::Symbol(spec) | Self::Slow { spec, .. } => Some(spec),
            Self::Signal(_) | Self::Exit(_) | Self::Every(_) => None,
        }
    }
}

/// How much is kept before a trigger, or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roll {
    /// All details of that time.
    Time(Duration),
    /// So many details, of all threads together.
    Events(u64),
}

impl Roll {
    /// What is kept before a trigger unless told otherwise.
    pub const BEFORE: Self = Self::Time(Duration::from_secs(5));
    /// What is kept after a trigger unless told otherwise.
    pub const AFTER: Self = Self::Time(Duration::from_secs(1));
}

/// A text that is no roll.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is neither a time nor a number of events: write it like 5s, 500ms or 1000")]
pub struct RollError {
    /// As typed.
    pub text: String,
}

impl FromStr for Roll {
    type Err = RollError;

    fn from_str(text: &str) -> Result<Self, RollError> {
        let complaint = || RollError { text: text.to_owned() };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Events).map_err(|_| complaint());
        }
        let time = timespan::parse(text).map_err(|_| complaint())?;
        if time <= LONGEST { Ok(Self::Time(time)) } else { Err(complaint()) }
    }
}

impl fmt::Display for Roll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => write!(f, "{time:?}"),
            Self::Events(1) => f.write_str("1 event"),
            Self::Events(events) => write!(f, "{events} events"),
        }
    }
}

fn probe_spec(spec: &str, typed: &str) -> Result<ProbeSpec, TriggerError> {
    spec.trim().parse().map_err(|source| TriggerError::Spec { text: typed.to_owned(), source })
}

/// `SPEC>TIME`. A spec may have `>` in it (`operator>>`, `f<int>`), a time has none: so the last one divides.
fn slow(rest: &str, typed: &str) -> Result<When, TriggerError> {
    let no_threshold = || TriggerError::NoThreshold { text: typed.to_owned() };
    let (spec, time) = rest.rsplit_once('>').ok_or_else(no_threshold)?;
    let over = timespan::parse(time.trim()).map_err(|_| no_threshold())?;
    Ok(When::Slow { spec: probe_spec(spec, typed)?, over })
}

fn signals(names: &str, typed: &str) -> Result<Vec<i32>, TriggerError> {
    let wrong = |name: &str| TriggerError::Signal { text: typed.to_owned(), name: name.trim().to_owned() };
    names.split(',').map(|name| signal(name.trim()).ok_or_else(|| wrong(name))).collect()
}

/// By number, or by name with or without `SIG`.
fn signal(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return Some(number).filter(|number| (1..=LAST_SIGNAL).contains(number));
    }
    let name = name.to_ascii_uppercase();
    let short = name.strip_prefix("SIG").unwrap_or(&name);
    let is_it = |number: &i32| signal_name(*number).and_then(|full| full.strip_prefix("SIG")) == Some(short);
    (1..=LAST_SIGNAL).find(is_it)
}

/// `SIGSEGV` of 11; `None` of a number without a name.
#[must_use]
pub fn signal_name(number: i32) -> Option<&'static str> {
    signal_hook::low_level::signal_name(number)
}

fn exit_status(status: &str, typed: &str) -> Result<i32, TriggerError> {
    let parsed = status.trim().parse::<u8>();
    parsed
        .map(i32::from)
        .map_err(|_| TriggerError::ExitStatus { text: typed.to_owned(), status: status.trim().to_owned() })
}

fn interval(time: &str, typed: &str) -> Result<Duration, TriggerError> {
    let time = timespan::parse(time.trim()).map_err(|source| TriggerError::Time { text: typed.to_owned(), source })?;
    let sensible = (Duration::from_millis(1)..=LONGEST).contains(&time);
    if sensible { Ok(time) } else { Err(TriggerError::Interval { text: typed.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn when(text: &str) -> When {
        let trigger: Trigger = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(trigger.to_string(), text);
        trigger.when
    }

    fn spec(text: &str) -> ProbeSpec {
        text.parse().unwrap()
    }

    #[test]
    fn grammar() {
        let slow = |text, over| When::Slow { spec: spec(text), over };
        let ms = Duration::from_millis;
        let table = [
            ("symbol=libc:abort", When::Symbol(spec("libc:abort"))),
            ("symbol=exe:a=b", When::Symbol(spec("exe:a=b"))),
            ("slow=libc:read>50ms", slow("libc:read", ms(50))),
            ("slow=libc:read > 1.5s", slow("libc:read", ms(1500))),
            ("slow=exe:f<int>::g>2", slow("exe:f<int>::g", ms(2000))),
            ("slow=exe:operator>>5ms", slow("exe:operator>", ms(5))),
            ("slow=exe:operator>>>5ms", slow("exe:operator>>", ms(5))),
            ("slow=exe:A::operator->>1us", slow("exe:A::operator->", Duration::from_micros(1))),
            ("signal", When::Signal(Vec::new())),
            ("signal=SIGSEGV", When::Signal(vec![11])),
            ("signal=segv,SIGABRT, 64", When::Signal(vec![11, 6, 64])),
            ("exit", When::Exit(ExitTest::Any)),
            ("exit=3", When::Exit(ExitTest::Is(3))),
            ("exit!=0", When::Exit(ExitTest::IsNot(0))),
            ("every=10s", When::Every(ms(10_000))),
        ];
        for (text, expected) in table {
            assert_eq!(when(text), expected, "{text}");
        }
        assert_eq!(" exit ".parse::<Trigger>().unwrap().to_string(), "exit");
    }

    #[test]
    fn refusals_name_the_text_and_its_mend() {
        let table = [
            ("", "is no trigger"),
            ("sometimes", "write symbol="),
            ("signals=11", "is no trigger"),
            ("every", "is no trigger"),
            ("symbol=abort", "names no library or program"),
            ("symbol=libc:", "names no function"),
            ("slow=libc:read", "does not say how slow"),
            ("slow=50ms", "does not say how slow"),
            ("slow=libc:read>soon", "does not say how slow"),
            ("slow=exe:a->b", "does not say how slow"),
            ("slow=>5ms", "names no function"),
            ("signal=", "the signal ''"),
            ("signal=SIGWHAT", "the signal 'SIGWHAT'"),
            ("signal=SEGV,65", "the signal '65'"),
            ("signal=0", "the signal '0'"),
            ("exit=", "no exit status"),
            ("exit!=256", "no exit status"),
            ("exit>0", "is no trigger"),
            ("every=soon", "'soon' is not a time"),
            ("every=0", "between 1ms and a century"),
            ("every=10000000000000", "between 1ms and a century"),
        ];
        for (text, part) in table {
            let error = text.parse::<Trigger>().unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(&format!("'{text}'")), "{text}: {error}");
        }
    }

    #[test]
    fn exits_are_judged_as_a_shell_would() {
        let exited = |code: i32| code << 8;
        assert!(ExitTest::Any.passes(exited(0)));
        assert!(ExitTest::Is(3).passes(exited(3)) && !ExitTest::Is(3).passes(exited(0)));
        assert!(ExitTest::IsNot(0).passes(exited(1)) && !ExitTest::IsNot(0).passes(exited(0)));
        assert!(ExitTest::IsNot(0).passes(11) && ExitTest::Is(139).passes(11 | 0x80));
    }

    #[test]
    fn rolls() {
        assert_eq!("5s".parse(), Ok(Roll::Time(Duration::from_secs(5))));
        assert_eq!("0".parse(), Ok(Roll::Events(0)));
        assert_eq!("1000".parse(), Ok(Roll::Events(1000)));
        assert_eq!("1.5".parse(), Ok(Roll::Time(Duration::from_millis(1500))));
        assert_eq!([Roll::BEFORE, Roll::Events(1)].map(|roll| roll.to_string()), ["5s", "1 event"]);
        for wrong in ["", "s", "-1", "99999999999999999999", "99999999h", "many"] {
            let error = wrong.parse::<Roll>().unwrap_err().to_string();
            assert!(error.contains(&format!("'{wrong}'")), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "((symbol|slow|signal|exit|every)(!?=)?)?\\PC*") {
            let _ = text.parse::<Trigger>();
            let _ = text.parse::<Roll>();
        }
    }
}
