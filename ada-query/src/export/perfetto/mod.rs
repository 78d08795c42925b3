//! Perfetto's protobuf: a track for each thread, slices that begin and end.
//!
//! A stack of a thread is a packet sequence with names of its own; its packets are in the order of time. Invariant: what a
//! packet refers to is in an earlier packet of its sequence, or in itself.

mod annotate;
mod proto;

use std::collections::{HashMap, HashSet};
use std::io::Write;

use ada_format::manifest::Gap;
use prost::Message;

use self::proto::{
    BOOTTIME, COUNT, Clock, ClockSnapshot, CounterDescriptor, DebugAnnotation, Interned, InternedData, Kind,
    NEEDS_STATE, ProcessDescriptor, REALTIME, STATE_CLEARED, ThreadDescriptor, TracePacket, TracePacketDefaults,
    TrackDescriptor, TrackEvent, TrackEventDefaults,
};
use super::names::{self, Processes, printable};
use super::nest::{Begin, Ended, Sink};
use super::out::Out;
use super::values::{Signal, Values};
use super::{ExportError, Exported, lead};
use crate::functions::FunctionIndex;
use crate::select::Selection;
use crate::span::{End, Mark, MarkKind};
use crate::switches::Switches;
use crate::trace::{Thread, Trace};

/// Field 1 of the whole trace: a packet, with its length.
const PACKET: u8 = 0x0a;
/// The sequence of what belongs to no thread; those of stacks follow.
const SEQUENCE: u32 = 1;

/// Bits that keep the numbers of tracks apart.
const PROCESS_TRACK: u64 = 1 << 62;
const COUNTER_TRACK: u64 = 1 << 61;

pub(super) fn export<W: Write>(trace: &Trace, selection: &Selection, out: W) -> Result<Exported, ExportError> {
    let switches = Switches::find(trace, selection);
    let mut writer = Writer::new(trace, out);
    writer.clocks()?;
    let (writer, exported) = lead(trace, selection, &switches, writer)?;
    Ok(Exported { bytes: writer.out.finish()?, ..exported })
}

struct Writer<'a, W: Write> {
    trace: &'a Trace,
    out: Out<W>,
    processes: Processes<'a>,
    told_processes: HashSet<u32>,
    sequences: u32,
    /// Numbers of modules and of annotations' names, for all sequences.
    categories: HashMap<String, u64>,
    annotations: HashMap<String, u64>,
    thread: Option<Thread>,
    stacks: Vec<Option<Sequence>>,
    lost: u64,
}

/// What a sequence has interned.
#[derive(Debug)]
struct Sequence {
    id: u32,
    /// The category of each function that has a name.
    functions: HashMap<FunctionIndex, u64>,
    categories: HashSet<u64>,
    annotations: HashSet<u64>,
}

impl<'a, W: Write> Writer<'a, W> {
    fn new(trace: &'a Trace, out: W) -> Self {
        Self {
            trace,
            out: Out::new(out),
            processes: Processes::new(trace),
            told_processes: HashSet::new(),
            sequences: SEQUENCE,
            categories: HashMap::new(),
            annotations: HashMap::new(),
            thread: None,
            stacks: Vec::new(),
            lost: 0,
        }
    }

    fn packet(&mut self, packet: &TracePacket) -> Result<(), ExportError> {
        let buffer = self.out.buffer();
        buffer.push(PACKET);
        // Never fails: a vector grows.
        let _ = packet.encode_length_delimited(buffer);
        Ok(self.out.piece()?)
    }

    fn clocks(&mut self) -> Result<(), ExportError> {
        let trace = self.trace;
        for anchor in &trace.manifest().clock.anchors {
            let clock = |id, time| Clock { clock_id: Some(id), timestamp: Some(time) };
            self.packet(&TracePacket {
                clock_snapshot: Some(ClockSnapshot {
                    clocks: vec![clock(BOOTTIME, anchor.boottime_ns), clock(REALTIME, anchor.realtime_ns)],
                    primary_trace_clock: Some(BOOTTIME),
                }),
                timestamp: Some(anchor.boottime_ns),
                trusted_packet_sequence_id: Some(SEQUENCE),
                ..TracePacket::default()
            })?;
        }
        Ok(())
    }

    fn describe(&mut self, descriptor: TrackDescriptor) -> Result<(), ExportError> {
        self.packet(&TracePacket {
            trusted_packet_sequence_id: Some(SEQUENCE),
            track_descriptor: Some(descriptor),
            ..TracePacket::default()
        })
    }

    fn describe_process(&mut self, pid: u32) -> Result<(), ExportError> {
        if !self.told_processes.insert(pid) {
            return Ok(());
        }
        let cmdline = self.processes.get(pid).map_or_else(Vec::new, |process| process.args.clone());
        let process_name = Some(self.processes.name(pid));
        self.describe(TrackDescriptor {
            uuid: Some(PROCESS_TRACK | u64::from(pid)),
            process: Some(ProcessDescriptor { pid: Some(pid.cast_signed()), cmdline, process_name }),
            ..TrackDescriptor::default()
        })
    }

    /// The first packets of a thread's stack.
    fn begin_stack(&mut self, stack: u32) -> Result<(), ExportError> {
        let Some(thread) = self.thread.clone() else { return Ok(()) };
        let (uuid, of_thread) = (track(&thread, stack), track(&thread, 0));
        let descriptor = if stack == 0 {
            let ids = (names::pid(&thread).cast_signed(), thread.tid.cast_signed());
            let thread_name = Some(printable(&thread.name)).filter(|name| !name.is_empty());
            let thread = ThreadDescriptor { pid: Some(ids.0), tid: Some(ids.1), thread_name };
            let parent_uuid = Some(PROCESS_TRACK | u64::from(ids.0.cast_unsigned()));
            TrackDescriptor { uuid: Some(uuid), parent_uuid, thread: Some(thread), ..TrackDescriptor::default() }
        } else {
            let name = Some(names::stack(&thread, stack));
            TrackDescriptor { uuid: Some(uuid), parent_uuid: Some(of_thread), name, ..TrackDescriptor::default() }
        };
        self.describe(descriptor)?;
        self.sequences += 1;
        let id = self.sequences;
        let track_event_defaults = Some(TrackEventDefaults { track_uuid: Some(uuid) });
        self.packet(&TracePacket {
            trusted_packet_sequence_id: Some(id),
            sequence_flags: Some(STATE_CLEARED),
            trace_packet_defaults: Some(TracePacketDefaults {
                track_event_defaults,
                timestamp_clock_id: Some(BOOTTIME),
            }),
            ..TracePacket::default()
        })?;
        let place = stack as usize;
        if self.stacks.len() <= place {
            self.stacks.resize_with(place + 1, || None);
        }
        if let Some(slot) = self.stacks.get_mut(place) {
            let (functions, categories, annotations) = (HashMap::new(), HashSet::new(), HashSet::new());
            *slot = Some(Sequence { id, functions, categories, annotations });
        }
        Ok(())
    }

    /// A packet with an event on a stack.
    fn event(
        &mut self,
        stack: u32,
        time_ns: u64,
        event: TrackEvent,
        interned: InternedData,
    ) -> Result<(), ExportError> {
        let sequence = self.stacks.get(stack as usize).and_then(Option::as_ref);
        let has_any = interned != InternedData::default();
        let packet = TracePacket {
            // Readers count with a sign.
            timestamp: Some(time_ns.min(i64::MAX.cast_unsigned())),
            trusted_packet_sequence_id: sequence.map(|sequence| sequence.id),
            track_event: Some(event),
            interned_data: has_any.then_some(interned),
            sequence_flags: Some(NEEDS_STATE),
            ..TracePacket::default()
        };
        self.packet(&packet)
    }

    fn instant(
        &mut self,
        time_ns: u64,
        stack: u32,
        name: String,
        annotations: &[(&str, DebugAnnotation)],
    ) -> Result<(), ExportError> {
        let annotate = |(name, value): &(&str, DebugAnnotation)| DebugAnnotation {
            name: Some((*name).to_owned()),
            ..value.clone()
        };
        let event = TrackEvent {
            kind: Some(Kind::Instant.into()),
            name: Some(name),
            debug_annotations: annotations.iter().map(annotate).collect(),
            ..TrackEvent::default()
        };
        self.event(stack, time_ns, event, InternedData::default())
    }

    /// Sets the counter of lost events.
    fn count(&mut self, time_ns: u64) -> Result<(), ExportError> {
        let Some(thread) = &self.thread else { return Ok(()) };
        let (uuid, value) = (COUNTER_TRACK | track(thread, 0), self.lost.cast_signed());
        let event = TrackEvent {
            kind: Some(Kind::Counter.into()),
            track_uuid: Some(uuid),
            counter_value: Some(value),
            ..TrackEvent::default()
        };
        self.event(0, time_ns, event, InternedData::default())
    }

    fn begin_counter(&mut self, thread: &Thread) -> Result<(), ExportError> {
        self.describe(TrackDescriptor {
            uuid: Some(COUNTER_TRACK | track(thread, 0)),
            name: Some("lost events".to_owned()),
            parent_uuid: Some(track(thread, 0)),
            counter: Some(CounterDescriptor { unit: Some(COUNT) }),
            ..TrackDescriptor::default()
        })?;
        self.count(self.trace.time_range().map_or(0, |(first, _)| first))
    }

    /// The category of a function, and what has to be interned before it and its name can be referred to.
    fn name(&mut self, stack: u32, function: FunctionIndex, interned: &mut InternedData) -> u64 {
        let Some(Some(sequence)) = self.stacks.get_mut(stack as usize) else { return 0 };
        if let Some(category) = sequence.functions.get(&function) {
            return *category;
        }
        let about = self.trace.functions().about(function);
        let module = about.module_name().unwrap_or("unknown");
        let category = number_of(&mut self.categories, module);
        sequence.functions.insert(function, category);
        interned.event_names.push(of_name(u64::from(function) + 1, printable(&about.to_string())));
        if sequence.categories.insert(category) {
            interned.event_categories.push(of_name(category, printable(module)));
        }
        category
    }

    /// Values as annotations, and what has to be interned for them.
    fn annotate(&mut self, stack: u32, values: Option<&Values>, interned: &mut InternedData) -> Vec<DebugAnnotation> {
        let annotations = values.map(annotate::of_values).unwrap_or_default();
        annotations.into_iter().map(|(name, value)| self.named(stack, name, value, interned)).collect()
    }

    fn named(
        &mut self,
        stack: u32,
        name: &str,
        value: DebugAnnotation,
        interned: &mut InternedData,
    ) -> DebugAnnotation {
        let iid = number_of(&mut self.annotations, name);
        if let Some(Some(sequence)) = self.stacks.get_mut(stack as usize)
            && sequence.annotations.insert(iid)
        {
            interned.debug_annotation_names.push(of_name(iid, name.to_owned()));
        }
        DebugAnnotation { name_iid: Some(iid), ..value }
    }
}

impl<W: Write> Sink for Writer<'_, W> {
    const VALUES: bool = true;
    const NESTS: bool = true;

    fn thread(&mut self, thread: &Thread) -> Result<(), ExportError> {
        self.describe_process(names::pid(thread))?;
        self.thread = Some(thread.clone());
        self.stacks.clear();
        self.begin_stack(0)?;
        self.lost = 0;
        let has_gaps = thread.parts.iter().any(|part| !part.gaps.is_empty());
        if thread.lost > 0 || has_gaps { self.begin_counter(thread) } else { Ok(()) }
    }

    fn begin(&mut self, begin: &Begin) -> Result<(), ExportError> {
        let stack = begin.stack;
        if self.stacks.get(stack as usize).is_none_or(Option::is_none) {
            self.begin_stack(stack)?;
        }
        let mut interned = InternedData::default();
        let category = self.name(stack, begin.call.function, &mut interned);
        let event = TrackEvent {
            category_iids: vec![category],
            debug_annotations: self.annotate(stack, begin.arguments.as_deref(), &mut interned),
            kind: Some(Kind::SliceBegin.into()),
            name_iid: Some(u64::from(begin.call.function) + 1),
            ..TrackEvent::default()
        };
        self.event(stack, begin.call.start_ns, event, interned)
    }

    fn end(&mut self, ended: &Ended) -> Result<(), ExportError> {
        let (stack, span) = (ended.stack, &ended.span);
        let mut interned = InternedData::default();
        let returned = ended.returned.as_ref().map(annotate::of_returned).unwrap_or_default();
        let mut annotations: Vec<_> =
            returned.into_iter().map(|(name, value)| self.named(stack, &name, value, &mut interned)).collect();
        if span.end != End::Return {
            annotations.push(self.named(stack, "end", annotate::text(span.end.name()), &mut interned));
        }
        if span.end == End::Unwound {
            let name = format!("unwound: {}", printable(&self.trace.functions().about(span.function).to_string()));
            self.instant(span.end_ns, stack, name, &[])?;
        }
        let event =
            TrackEvent { debug_annotations: annotations, kind: Some(Kind::SliceEnd.into()), ..TrackEvent::default() };
        self.event(stack, span.end_ns, event, interned)
    }

    fn mark(&mut self, mark: &Mark, signal: Option<&Signal>) -> Result<(), ExportError> {
        let name = match (mark.kind, signal) {
            (MarkKind::Signal, Some(signal)) => format!("signal {}", signal.number),
            (MarkKind::Signal, None) => "signal".to_owned(),
            (MarkKind::UnmatchedReturn, _) => {
                format!(
                    "return without a call: {}",
                    printable(&self.trace.functions().about(mark.function).to_string())
                )
            }
            (MarkKind::Unknown, _) => "event of an unknown kind".to_owned(),
        };
        let annotations = signal.map(|signal| {
            vec![
                ("number", annotate::number(signal.number.into())),
                ("code", DebugAnnotation { int_value: Some(signal.code.into()), ..DebugAnnotation::default() }),
                ("address", annotate::pointer(signal.address)),
            ]
        });
        self.instant(mark.time_ns, 0, name, &annotations.unwrap_or_default())
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), ExportError> {
        self.lost = self.lost.saturating_add(gap.count);
        self.count(gap.time_start_ns)
    }

    fn thread_end(&mut self) -> Result<(), ExportError> {
        let Some(thread) = &self.thread else { return Ok(()) };
        // Not all that was lost has a place.
        if thread.lost > self.lost {
            self.lost = thread.lost;
            return self.count(thread.end.0);
        }
        Ok(())
    }
}

/// The number of a stack's track.
fn track(thread: &Thread, stack: u32) -> u64 {
    (thread.index as u64 + 1) << 24 | u64::from(stack)
}

fn of_name(iid: u64, name: String) -> Interned {
    Interned { iid: Some(iid), name: Some(name) }
}

/// The number of a name, from 1 on.
fn number_of(numbers: &mut HashMap<String, u64>, name: &str) -> u64 {
    match numbers.get(name) {
        Some(number) => *number,
        None => {
            let number = numbers.len() as u64 + 1;
            numbers.insert(name.to_owned(), number);
            number
        }
    }
}
