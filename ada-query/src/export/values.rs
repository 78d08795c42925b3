//! What calls were given and gave back, read along with them.
//!
//! Invariant: typed values where the session has the function's signature, argument registers otherwise; a detail file
//! that cannot be read is named once, and left alone from then on.

use ada_format::layout::DetailType;
use ada_format::read::Payload;
use ada_format::values::{Observed, values};
use serde_json::{Map, Value as Json, json};

use crate::QueryError;
use crate::detail::Details;
use crate::functions::{FunctionIndex, Functions};
use crate::trace::Thread;

const CALL_X86: [&str; 6] = ["rdi", "rsi", "rdx", "rcx", "r8", "r9"];
const RETURN_X86: [&str; 3] = ["rax", "rdx", "xmm0"];
const CALL_ARM: [&str; 8] = ["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"];
const RETURN_ARM: [&str; 2] = ["x0", "x1"];

/// The names of the registers of a call's or return's detail, first to last, for the processor of a session.
pub(super) fn register_names(arch: &str, is_call: bool) -> &'static [&'static str] {
    match (arch == "arm64", is_call) {
        (false, true) => &CALL_X86,
        (false, false) => &RETURN_X86,
        (true, true) => &CALL_ARM,
        (true, false) => &RETURN_ARM,
    }
}

/// What a call was given or gave back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    /// By name, from the signature.
    Typed(Vec<(String, Json)>),
    /// By register.
    Registers(Vec<(&'static str, u64)>),
}

impl Values {
    /// As a JSON object; registers are hexadecimal strings.
    pub(super) fn json(&self) -> Json {
        let object: Map<String, Json> = match self {
            Self::Typed(values) => values.iter().cloned().collect(),
            Self::Registers(registers) => {
                registers.iter().map(|(name, value)| ((*name).to_owned(), json!(format!("{value:#x}")))).collect()
            }
        };
        Json::Object(object)
    }
}

impl Values {
    /// What was given back, as JSON: the value itself, or an object of registers.
    pub(super) fn returned(&self) -> Json {
        match self {
            Self::Typed(values) => values.first().map_or(Json::Null, |(_, value)| value.clone()),
            Self::Registers(_) => self.json(),
        }
    }
}

/// What is known of a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signal {
    /// Its number.
    pub(super) number: u32,
    /// `si_code`.
    pub(super) code: i32,
    /// `si_addr`, or 0.
    pub(super) address: u64,
}

/// Reads the values of one thread at a time.
#[derive(Debug)]
pub(super) struct ValueReader<'a> {
    functions: &'a Functions,
    arch: &'a str,
    details: Details,
    has_any: bool,
    /// The detail file that failed, by its folder's ordinal, and why.
    pub(super) failed: Vec<(u32, QueryError)>,
}

impl<'a> ValueReader<'a> {
    /// For a session of such functions and processor.
    pub(super) fn new(functions: &'a Functions, arch: &'a str) -> Self {
        Self { functions, arch, details: Details::default(), has_any: false, failed: Vec::new() }
    }

    /// Goes to another thread.
    pub(super) fn begin(&mut self, thread: &Thread) {
        self.details = Details::new(thread);
        self.has_any = thread.parts.iter().any(|part| part.detail.is_some());
    }

    /// Those of an event, whose detail is at `seq` of `part`. To be asked in the order of the events.
    #[inline]
    pub(super) fn read(&mut self, function: FunctionIndex, part: u32, seq: Option<u32>) -> Option<Values> {
        let seq = seq.filter(|_| self.has_any)?;
        self.read_at(function, part, seq)
    }

    /// A signal's.
    pub(super) fn signal(&mut self, part: u32, seq: Option<u32>) -> Option<Signal> {
        let seq = seq.filter(|_| self.has_any)?;
        match self.details.event(part, seq) {
            Ok(event) => {
                let Payload::Signal(signal) = event?.event().payload()? else { return None };
                let fixed = signal.fixed;
                let (number, code) = (fixed.number.get(), fixed.code.get());
                Some(Signal { number, code, address: fixed.fault_address.get() })
            }
            Err(error) => self.fail(part, error),
        }
    }

    fn read_at(&mut self, function: FunctionIndex, part: u32, seq: u32) -> Option<Values> {
        let event = match self.details.event(part, seq) {
            Ok(event) => event?.event(),
            Err(error) => return self.fail(part, error),
        };
        let signature = self.functions.known().get(function as usize).and_then(|known| known.signature.as_deref());
        if let Some(signature) = signature {
            return Some(Values::Typed(values(signature, &Observed::event(&event)?)));
        }
        let is_call = event.detail_type()? == DetailType::FunctionCall;
        let Payload::Function(payload) = event.payload()? else { return None };
        let names = register_names(self.arch, is_call).iter().copied();
        let registers = names.zip(payload.fixed.regs.iter().map(|register| register.get()));
        Some(Values::Registers(registers.collect()))
    }

    fn fail<T>(&mut self, part: u32, error: QueryError) -> Option<T> {
        self.failed.push((part, error));
        self.details.stop();
        self.has_any = false;
        None
    }
}
