//! Events as JSON, one object per line: of `kind` call, return, exception or switch (to another stack), or `lost` for a place
//! where some are missing.
//!
//! Invariant: every line is one whole object with the keys in this order: time_ns, thread, pid, tid, kind, then those
//! of the kind.

use std::io::{self, Write};

use ada_format::layout::{EventKind, NO_FUNCTION};
use ada_format::manifest::{Function, Gap};
use ada_format::read::{DetailEvent, FunctionEvent, Payload, SessionReader, SignalEvent};
use ada_format::values::{Observed, values};
use serde_json::json;

use super::selection::Selection;
use super::signals;
use super::{Event, Style};
use crate::cli::names::{self, IdMap, Typed, Who};
use crate::cli::out::Out;

/// Lines for programs.
pub(super) struct Jsonl {
    /// The keys that are the same for all events of a function.
    functions: IdMap<String>,
    typed: IdMap<Typed>,
    /// The keys that are the same for all events of a thread, by place in the selection.
    threads: Vec<String>,
}

impl Jsonl {
    /// Lines for the threads of a selection.
    pub(super) fn new(session: &SessionReader, selection: &Selection<'_>) -> Self {
        Self {
            functions: names::by_function(session.manifest(), of_function),
            typed: names::with_signatures(session.manifest()),
            threads: selection.threads.iter().map(|(_, who)| of_thread(who)).collect(),
        }
    }
}

impl Style for Jsonl {
    fn begin<W: Write>(&self, _out: &mut Out<W>) -> io::Result<()> {
        Ok(())
    }

    #[inline]
    fn event<W: Write>(&self, out: &mut Out<W>, thread: usize, event: &Event<'_>) -> io::Result<()> {
        out.text("{\"time_ns\":");
        out.number(event.time_ns);
        out.text(self.threads.get(thread).map_or("", String::as_str));
        out.text(match event.kind {
            Some(EventKind::Switch) => return switch(out, event),
            Some(EventKind::Call) => "call\",\"depth\":",
            Some(EventKind::Return) => "return\",\"depth\":",
            Some(EventKind::Exception) => "exception\",\"depth\":",
            None => "unknown\",\"depth\":",
        });
        out.number(event.depth.into());
        match self.functions.get(&event.function_id) {
            Some(keys) => out.text(keys),
            None => out.text(&unknown_function(event.function_id)),
        }
        out.text(",\"seq\":");
        out.number(event.position);
        if let Some(observed) = event.detail.as_ref().and_then(Observed::event)
            && let Some(known) = self.typed.get(&event.function_id)
        {
            typed(out, &values(&known.signature, &observed));
        }
        if let Some(payload) = event.detail.as_ref().and_then(DetailEvent::payload) {
            detail(out, &payload);
        }
        out.text("}");
        out.end_line()
    }

    fn lost<W: Write>(&self, out: &mut Out<W>, gap: &Gap, who: &Who) -> io::Result<()> {
        out.text("{\"time_ns\":");
        out.number(gap.time_start_ns);
        out.text(&of_thread(who));
        out.text("lost\",\"count\":");
        out.number(gap.count);
        out.text(",\"time_end_ns\":");
        out.number(gap.time_end_ns);
        out.text(",\"after_seq\":");
        match gap.after_index_seq {
            Some(position) => out.number(position),
            None => out.text("null"),
        }
        out.text("}");
        out.end_line()
    }
}

/// The thread goes on on another stack.
#[cold]
fn switch<W: Write>(out: &mut Out<W>, event: &Event<'_>) -> io::Result<()> {
    out.text("switch\",\"stack\":");
    out.number(event.function_id);
    out.text(",\"seq\":");
    out.number(event.position);
    out.text("}");
    out.end_line()
}

fn of_thread(who: &Who) -> String {
    format!(",\"thread\":{},\"pid\":{},\"tid\":{},\"kind\":\"", who.id, json!(who.pid), who.tid)
}

fn of_function(function: &Function, module: Option<&str>) -> String {
    let (id, name) = (function.function_id, json!(function.name));
    let demangled = function.demangled.as_ref().map(|name| format!(",\"demangled\":{}", json!(name)));
    let demangled = demangled.unwrap_or_default();
    format!(",\"function_id\":{id},\"function\":{name}{demangled},\"module\":{}", json!(module))
}

#[cold]
fn unknown_function(id: u64) -> String {
    if id == NO_FUNCTION {
        return ",\"function_id\":null,\"function\":null,\"module\":null".to_owned();
    }
    format!(",\"function_id\":{id},\"function\":null,\"module\":null")
}

/// Arguments of a call as the object `args`; what it gave back as `return`.
pub(in crate::cli) fn typed<W: Write>(out: &mut Out<W>, values: &[(String, serde_json::Value)]) {
    if let [(name, value)] = values
        && name == ada_format::values::RETURN
    {
        out.text(&format!(",\"return\":{value}"));
        return;
    }
    let mut before = ",\"args\":{";
    for (name, value) in values {
        out.text(&format!("{before}{}:{value}", json!(name)));
        before = ",";
    }
    out.text(if values.is_empty() { "" } else { "}" });
}

fn detail<W: Write>(out: &mut Out<W>, payload: &Payload<'_>) {
    out.text(",\"detail\":{");
    match payload {
        Payload::Function(function) => of_registers(out, function),
        Payload::Signal(signal) => of_signal(out, signal),
    }
    out.text("}");
}

fn of_registers<W: Write>(out: &mut Out<W>, function: &FunctionEvent<'_>) {
    let fixed = function.fixed;
    list(out, "\"regs\":[", fixed.regs.iter().map(|register| register.get()));
    let pointers = [
        (",\"return_address\":", fixed.return_address),
        (",\"frame_pointer\":", fixed.frame_pointer),
        (",\"stack_pointer\":", fixed.stack_pointer),
    ];
    for (key, value) in pointers {
        out.text(key);
        out.number(value.get());
    }
    if !function.stack.is_empty() {
        out.text(",\"stack\":\"");
        out.hex_bytes(function.stack);
        out.text("\"");
    }
}

fn of_signal<W: Write>(out: &mut Out<W>, signal: &SignalEvent<'_>) {
    out.text("\"signal\":");
    out.number(signal.fixed.number.get().into());
    out.text(&format!(",\"name\":{}", json!(signals::name(signal.fixed.number.get()))));
    out.text(",\"code\":");
    out.text(&signal.fixed.code.get().to_string());
    out.text(",\"fault_address\":");
    out.number(signal.fixed.fault_address.get());
    list(out, ",\"regs\":[", signal.registers.iter().map(|register| register.get()));
}

fn list<W: Write>(out: &mut Out<W>, open: &str, numbers: impl Iterator<Item = u64>) {
    out.text(open);
    for (index, number) in numbers.enumerate() {
        if index > 0 {
            out.text(",");
        }
        out.number(number);
    }
    out.text("]");
}
