//! Spans as comma-separated values, in the order in which they ended.
//!
//! Invariant: every line has [`HEAD`]'s columns; fields with commas, quotes or line ends are quoted as RFC 4180 says.

use std::io::Write;

use super::names::Texts;
use super::nest::{Ended, Sink};
use super::out::Out;
use super::values::Values;
use super::{ExportError, Exported, lead};
use crate::functions::About;
use crate::select::Selection;
use crate::switches::Switches;
use crate::trace::{Thread, Trace};

/// The first line.
const HEAD: &str = "thread,pid,tid,thread_name,number,parent,depth,function_id,function,demangled,module,\
                    start_ns,end_ns,duration_ns,self_ns,end,exact,args,returned\n";

pub(super) fn export<W: Write>(trace: &Trace, selection: &Selection, out: W) -> Result<Exported, ExportError> {
    let switches = Switches::find(trace, selection);
    let mut out = Out::new(out);
    out.text(HEAD);
    let writer = Writer { out, functions: Texts::new(trace, describe), thread: String::new() };
    let (writer, exported) = lead(trace, selection, &switches, writer)?;
    Ok(Exported { bytes: writer.out.finish()?, ..exported })
}

struct Writer<'a, W: Write> {
    out: Out<W>,
    functions: Texts<'a>,
    /// The first fields of all lines of a thread.
    thread: String,
}

impl<W: Write> Writer<'_, W> {
    fn number(&mut self, number: u64) {
        self.out.number(number);
        self.out.text(",");
    }

    fn value(&mut self, value: Option<serde_json::Value>) {
        if let Some(value) = value {
            self.out.text(&field(&value.to_string()));
        }
    }
}

impl<W: Write> Sink for Writer<'_, W> {
    const VALUES: bool = true;
    const NESTS: bool = false;

    fn thread(&mut self, thread: &Thread) -> Result<(), ExportError> {
        let pid = thread.pid.map(|pid| pid.to_string()).unwrap_or_default();
        self.thread = format!("{},{pid},{},{},", thread.id, thread.tid, field(&thread.name));
        Ok(())
    }

    fn end(&mut self, ended: &Ended) -> Result<(), ExportError> {
        let span = &ended.span;
        self.out.text(&self.thread);
        self.number(span.number);
        if let Some(parent) = span.parent {
            self.out.number(parent);
        }
        self.out.text(",");
        self.number(span.depth.into());
        self.out.text(self.functions.get(span.function));
        for number in [span.start_ns, span.end_ns, span.duration_ns(), span.self_ns()] {
            self.number(number);
        }
        self.out.text(span.end.name());
        self.out.text(if span.is_timed() { ",true," } else { ",false," });
        self.value(ended.arguments.as_deref().map(Values::json));
        self.out.text(",");
        self.value(ended.returned.as_ref().map(Values::returned));
        self.out.text("\n");
        Ok(self.out.piece()?)
    }
}

fn describe(about: &About<'_>) -> String {
    let text = |text: Option<&str>| field(text.unwrap_or_default());
    format!("{},{},{},{},", about.id, text(about.name), text(about.demangled), text(about.module))
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
