//! Sorts the events of one stream by thread, finds their call depth, and hands them on: to the files, and past the triggers.
//!
//! Invariant: what reaches [`Files`] is in the order of time within each thread, and its calls and returns belong to the
//! recording.

mod obey;

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    path::PathBuf,
    sync::{Arc, mpsc::Sender},
};

use ada_format::{
    layout::{EventKind, NO_FUNCTION},
    wire::{Record, Signal, flags, kind},
    write::Detail,
};

use super::{
    depth::{Call, CallStack, Expect},
    files::Files,
    flight::{Entry, FlightRecorder, Moment, Route, TriggerId},
    known::Known,
    ledger::{Ledger, Muted},
    life::{Life, Stopped, go_on, name_of},
    returns::ReturnsTable,
    rotation::{Rotation, Rotator},
    span::Span,
    thread::{Event, Pieces, function_detail, signal_detail},
};
use crate::{
    backend::{CallDetail, LossGauge, Losses, More, Sink, ThreadLoss},
    clock,
    plan::Plan,
    session::Flight,
};

/// Where events go.
pub(crate) struct Demux {
    span: Arc<Span>,
    files: Files,
    /// What happened to processes and was not yet asked for.
    lives: Vec<Life>,
    /// Processes that have been stopped since they last received a SIGCONT.
    stopped: HashSet<u32>,
    /// Takes processes that are stopped.
    held: Option<Sender<Stopped>>,
    returns: ReturnsTable,
    /// The calls on stacks that are no thread's own, by process and stack: goroutines go from thread to thread.
    stacks: HashMap<(u32, u32), CallStack>,
    /// Tells how many events the source has lost so far.
    lost: LossGauge,
    /// Losses whose threads were told.
    attributed: u64,
    /// The gauge up to which all threads that lost events are known; none while some are not.
    told: Option<u64>,
    /// Events at this call depth and deeper are not written.
    max_depth: u32,
    /// Which details are written, if not all; and what triggers are looked up in.
    flight: Option<FlightRecorder>,
    /// Which folders are kept, if not all.
    rotator: Option<Rotator>,
    /// Folders that are in no ledger any more and are to be deleted.
    condemned: Vec<u32>,
    /// What its triggers choose among.
    known: Arc<Known>,
}

impl Demux {
    /// Writes to the session folder `dir`, which exists.
    pub(crate) fn new(dir: PathBuf, plan: &Plan, lost: LossGauge, span: Arc<Span>) -> Self {
        Self {
            span,
            files: Files::new(dir),
            lives: Vec::new(),
            stopped: HashSet::new(),
            held: None,
            returns: ReturnsTable::new(plan),
            stacks: HashMap::new(),
            lost,
            attributed: 0,
            told: Some(0),
            max_depth: u32::MAX,
            flight: None,
            rotator: None,
            condemned: Vec::new(),
            known: Arc::default(),
        }
    }

    /// Leaves out what is as deep as `limit` or deeper.
    pub(crate) fn no_deeper(self, limit: Option<NonZeroU32>) -> Self {
        Self { max_depth: limit.map_or(u32::MAX, NonZeroU32::get), ..self }
    }

    /// Writes details only around triggers, if `flight` asks for that, which are functions of `known`.
    pub(crate) fn around_triggers(self, flight: Option<&Flight>, known: &Arc<Known>) -> Self {
        let armed = flight.map(|Flight { options, triggers }| {
            let now_ns = clock::boottime_ns();
            let mut recorder = FlightRecorder::new(options, now_ns);
            for trigger in triggers {
                let (trigger, functions) = known.complete(known.arming(trigger.clone()));
                recorder.triggers.add(trigger, functions, now_ns);
            }
            recorder
        });
        Self { flight: armed, known: Arc::clone(known), ..self }
    }

    /// Keeps only the newest events, if `rotation` asks for that.
    pub(crate) fn keeping(mut self, rotation: Rotation) -> Self {
        self.files.no_larger(rotation.largest_chunk());
        Self { rotator: rotation.asked().then(|| Rotator::new(rotation)), ..self }
    }

    /// The books, up to date as of the last flush.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.files.ledger
    }

    /// Where processes are told that are stopped until somebody lets them go on; otherwise they go on at once.
    pub(crate) fn tell_held(&mut self, held: Sender<Stopped>) {
        self.held = Some(held);
    }

    /// More functions will be called.
    pub(crate) fn extend(&mut self, addition: &Plan) {
        self.returns.extend(addition);
        if let Some(flight) = &mut self.flight {
            self.known.add(addition);
            flight.triggers.extend(addition, self.known.programs());
        }
    }

    /// Moves what happened to processes since the last call to the end of `lives`.
    pub(crate) fn tell_lives(&mut self, lives: &mut Vec<Life>) {
        lives.append(&mut self.lives);
    }

    /// Whether writing has ended with an error.
    pub(crate) fn failed(&self) -> bool {
        self.files.failed()
    }

    /// Fires what is due at `now_ns`, and finalises the files of ended threads of which no detail is left.
    pub(crate) fn tick(&mut self, now_ns: u64) {
        let Self { flight: Some(flight), files, .. } = self else { return };
        flight.tick(now_ns, &mut |entry| files.write_late(entry));
        while let Some(folder) = flight.take_released() {
            files.release(folder);
        }
        files.ledger.note_flight(flight);
    }

    /// Hands what is buffered to the operating system and brings the ledger up to date.
    pub(crate) fn flush(&mut self) {
        self.files.flush();
    }

    /// Lets threads go on in new folders and takes old ones out of the ledger, to keep what is to be kept at `now_ns`. To be
    /// called after a flush.
    pub(crate) fn rotate(&mut self, now_ns: u64) {
        let Some(rotator) = &mut self.rotator else { return };
        let windows = self.files.ledger.windows.as_deref().unwrap_or_default();
        // While the probes are taken away, nothing grows older.
        let decision = rotator.decide(&self.files.chunks(), windows, self.span.until(now_ns));
        for folder in decision.go_on {
            if let Some(index) = self.files.place_of(folder) {
                self.go_on_in_next_folder(index);
            }
        }
        self.condemned.extend(decision.delete.into_iter().filter(|folder| self.files.cut(*folder)));
    }

    /// Moves the folders that are to be deleted to the end of `condemned`. The ledger does not have them any more; the
    /// manifest must not either when they go.
    pub(crate) fn tell_condemned(&mut self, condemned: &mut Vec<u32>) {
        condemned.append(&mut self.condemned);
    }

    /// Notes losses, by thread where they are known.
    pub(crate) fn note_losses(&mut self, losses: &Losses) {
        self.files.note_losses(losses);
        self.attributed += losses.threads.iter().map(|loss| loss.count).sum::<u64>();
        let total = losses.by_reason.iter().map(|(_, count)| count).sum();
        self.told = Some(total).filter(|total| self.attributed >= *total);
        for loss in &losses.threads {
            if let Some(thread) = self.files.known(loss.pid, loss.tid).and_then(|index| self.files.thread(index)) {
                thread.stack.note_loss(loss.last_ns);
            }
        }
        if !self.stacks.is_empty() && !losses.threads.is_empty() {
            self.note_losses_of_stacks(&losses.threads);
        }
    }

    /// Which of its process's other stacks a thread was on is not known.
    fn note_losses_of_stacks(&mut self, losses: &[ThreadLoss]) {
        let mut last: HashMap<u32, u64> = HashMap::new();
        for loss in losses {
            let last_ns = last.entry(loss.pid).or_default();
            *last_ns = loss.last_ns.max(*last_ns);
        }
        for ((pid, _), stack) in &mut self.stacks {
            if let Some(last_ns) = last.get(pid) {
                stack.note_loss(*last_ns);
            }
        }
    }

    /// Finalises every file of a recording that ended at `end_ns`.
    pub(crate) fn finish(&mut self, end_ns: u64) {
        if let Some(flight) = &mut self.flight {
            flight.finish(end_ns);
            self.files.ledger.note_flight(flight);
        }
        self.files.finish();
        if let Some(rotator) = &mut self.rotator {
            rotator.last();
        }
        self.rotate(end_ns);
    }

    /// A call or return.
    fn function_event(&mut self, record: &Record, detail: Option<&CallDetail<'_>>) {
        let within = self.span.contains(record.time_ns);
        if record.kind == kind::CALL && !within {
            return;
        }
        let place = match self.files.known(record.tgid, record.tid) {
            // The return of a call from before the recording must not make a folder for its thread.
            None if record.kind == kind::RETURN && (self.lost)() == 0 && !self.failed() && !self.moved(record) => {
                return;
            }
            None => self.files.begin(record.tgid, record.tid),
            known => known,
        };
        let returns = self.returns.of(record.function_id);
        let Some((index, thread)) = place.and_then(|index| Some((index, self.files.thread(index)?))) else {
            return self.files.count_unwritten();
        };
        let stack = match record.stack {
            0 => &mut thread.stack,
            stack => self.stacks.entry((record.tgid, stack)).or_default(),
        };
        let (kind, depth, called_ns) = match record.kind {
            kind::CALL => (EventKind::Call, stack.call(call_of(record, returns)), record.time_ns),
            _ => match stack.ret(record.sp, record.function_id) {
                Ok(depth) => (EventKind::Return, depth, stack.called_ns()),
                // With nothing lost, its call lies before the recording; after the end, maybe behind it.
                Err(_) if !within || record.flags & flags::UNPAIRED != 0 || (self.lost)() == 0 => return,
                Err(depth) => (EventKind::Return, depth, record.time_ns),
            },
        };
        if !stack.left().is_empty() {
            self.end_left(index, record.stack, record.time_ns);
        }
        if depth >= self.max_depth {
            return;
        }
        if self.files.runs_on(index) != record.stack {
            self.switch(index, record.stack, record.time_ns);
        }
        let event = Event { time_ns: record.time_ns, function_id: record.function_id, kind, depth };
        let index_seq = match detail {
            None => self.files.write(index, event, None),
            Some(detail) => {
                let pieces = Pieces::of(detail);
                self.write_with(index, event, &Detail::Function(function_detail(detail, &pieces)))
            }
        };
        if let Some(flight) = &self.flight {
            let fired = match kind {
                EventKind::Call => flight.triggers.called(record.function_id),
                _ => flight.triggers.returned(record.function_id, record.time_ns.saturating_sub(called_ns)),
            };
            if let Some(trigger) = fired {
                self.fire(trigger, index, index_seq, record.time_ns, called_ns);
            }
        }
        if self.files.is_full(index) {
            self.go_on_in_next_folder(index);
        }
    }

    /// Whether it is the return of a call that a goroutine made in another thread.
    #[cold]
    fn moved(&self, record: &Record) -> bool {
        let stack = self.stacks.get(&(record.tgid, record.stack));
        stack.is_some_and(|stack| stack.awaits(record.sp, record.function_id))
    }

    /// Writes an event, and its detail where that goes now.
    #[inline]
    fn write_with(&mut self, index: usize, event: Event, detail: &Detail<'_>) -> Option<u32> {
        let Some(flight) = &mut self.flight else { return self.files.write(index, event, Some(detail)) };
        match flight.route(event.time_ns) {
            Route::Write => {
                let index_seq = self.files.write(index, event, Some(detail))?;
                flight.wrote();
                Some(index_seq)
            }
            Route::Drop => self.files.write(index, event, None),
            Route::Keep => {
                let index_seq = self.files.write(index, event, None)?;
                let thread = self.files.thread(index)?.folder;
                let Event { time_ns, function_id, kind, .. } = event;
                flight.keep(&Entry { thread, index_seq, time_ns, function_id, kind, detail: *detail });
                Some(index_seq)
            }
        }
    }

    /// A trigger fires, of an event of the thread at a place, about something that began at `from_ns`.
    #[cold]
    fn fire(&mut self, trigger: TriggerId, index: usize, index_seq: Option<u32>, at_ns: u64, from_ns: u64) {
        let Self { flight: Some(flight), files, .. } = self else { return };
        let event = files.thread(index).map(|thread| thread.folder).zip(index_seq);
        flight.fire(trigger, Moment { at_ns, from_ns, event }, &mut |entry| files.write_late(entry));
    }

    /// The calls that an event at `time_ns` proves to be left by longjmp or an exception end with it. Where this thread may have
    /// lost events while they ran, their returns may be among those: the stack knows, once it is told whose the losses are.
    #[cold]
    fn end_left(&mut self, index: usize, stack: u32, time_ns: u64) {
        if self.told != Some((self.lost)()) {
            return;
        }
        for position in 0.. {
            let Some(thread) = self.files.thread(index) else { return };
            let calls = match stack {
                0 => Some(&thread.stack),
                stack => self.stacks.get(&(thread.pid, stack)),
            };
            let Some(left) = calls.and_then(|calls| calls.left().get(position)).copied() else { return };
            let (function_id, kind, depth) = (left.function_id, EventKind::Exception, left.depth);
            if depth < self.max_depth && !self.files.is_full(index) {
                self.switch(index, stack, time_ns);
                self.files.write(index, Event { time_ns, function_id, kind, depth }, None);
            }
        }
    }

    /// Says in a thread's file on which stack the next event lies, unless that is where the last one was.
    #[cold]
    fn switch(&mut self, index: usize, stack: u32, time_ns: u64) {
        let Some(thread) = self.files.thread(index).filter(|thread| thread.runs_on != stack) else { return };
        thread.runs_on = stack;
        let event = Event { time_ns, function_id: stack.into(), kind: EventKind::Switch, depth: 0 };
        self.files.write(index, event, None);
    }

    /// A signal is delivered to a thread.
    #[cold]
    fn signal(&mut self, record: &Record, signal: &Signal) {
        if self.is_ours(record, signal) || !self.span.contains(record.time_ns) {
            return;
        }
        let known = self.files.known(record.tgid, record.tid);
        // What ends a process is told by each of its threads: of those with nothing else to tell, the first one is enough.
        let ends = signal.code == 0 && signal.sender == 0 && record.tid != record.tgid;
        if known.is_none() && ends {
            return;
        }
        let place = known.or_else(|| self.files.begin(record.tgid, record.tid));
        let Some((index, thread)) = place.and_then(|index| Some((index, self.files.thread(index)?))) else {
            return self.files.count_unwritten();
        };
        let (depth, function_id) = thread.stack.running(stack_pointer(signal));
        let function_id = function_id.unwrap_or(NO_FUNCTION);
        // Its depth is that on the thread's own stack.
        self.switch(index, 0, record.time_ns);
        let event = Event { time_ns: record.time_ns, function_id, kind: EventKind::Exception, depth };
        let index_seq = self.write_with(index, event, &Detail::Signal(signal_detail(signal)));
        let fired = self.flight.as_ref().and_then(|flight| flight.triggers.signalled(signal.number));
        if let Some(trigger) = fired {
            self.fire(trigger, index, index_seq, record.time_ns, record.time_ns);
        }
        if self.files.is_full(index) {
            self.go_on_in_next_folder(index);
        }
    }

    /// Whether it is the SIGCONT by which a process goes on that was stopped to be looked at. A process in a namespace below
    /// does not see who sent it.
    fn is_ours(&mut self, record: &Record, signal: &Signal) -> bool {
        if signal.number != libc::SIGCONT.cast_unsigned() || signal.code != 0 {
            return false;
        }
        signal.sender == std::process::id() || signal.sender == 0 && self.stopped.remove(&record.tgid)
    }

    #[cold]
    fn go_on_in_next_folder(&mut self, index: usize) {
        let Self { flight, files, .. } = self;
        files.go_on(index, |folder| flight.as_mut().is_some_and(|flight| !flight.thread_ended(folder)));
    }

    /// Ends the thread at a place.
    fn end_thread(&mut self, index: usize, name: Option<&str>) {
        let folder = self.files.thread(index).map(|thread| thread.folder);
        let waits = self.flight.as_mut().zip(folder).is_some_and(|(flight, folder)| !flight.thread_ended(folder));
        self.files.end(index, name, waits);
    }

    #[cold]
    fn muted(&mut self, record: &Record) {
        let (function_id, at_ns, calls_per_s) = (record.function_id, record.time_ns, record.sp);
        self.files.ledger.add_muted(Muted { function_id, at_ns, calls_per_s });
    }

    #[cold]
    fn thread_exit(&mut self, record: &Record) {
        if let Some(index) = self.files.known(record.tgid, record.tid) {
            self.end_thread(index, Some(&name_of(record)));
        }
    }

    #[cold]
    fn exec(&mut self, record: &Record) {
        let caller = self.files.known(record.tgid, record.tid);
        if let Some(thread) = caller.and_then(|index| self.files.thread(index)) {
            thread.stack.clear();
        }
        self.stacks.retain(|(pid, _), _| *pid != record.tgid);
        // Its other threads are gone, and so is the one that called execve under its own id.
        for index in 0..self.files.places() {
            if self.files.is_of(index, record.tgid) && caller != Some(index) {
                self.end_thread(index, None);
            }
        }
        self.process(record);
        self.stopped(record);
    }

    #[cold]
    fn stopped(&mut self, record: &Record) {
        if record.flags & flags::HELD != 0 {
            self.stopped.insert(record.tgid);
            let told = self.held.as_ref().map(|held| held.send(Stopped::of(record)));
            if !matches!(told, Some(Ok(()))) {
                go_on(record.tgid);
            }
        }
    }

    /// A new process. Its id may have been another one's, of whose end nothing was seen.
    #[cold]
    fn fork(&mut self, record: &Record) {
        for index in 0..self.files.places() {
            if u32::try_from(record.function_id).is_ok_and(|pid| self.files.is_of(index, pid)) {
                self.end_thread(index, None);
            }
        }
        self.process(record);
    }

    /// A process has ended.
    #[cold]
    fn exit(&mut self, record: &Record) {
        self.stopped.remove(&record.tgid);
        self.stacks.retain(|(pid, _), _| *pid != record.tgid);
        self.process(record);
        let status = (record.function_id & u64::from(u32::MAX)) as u32;
        if let Self { flight: Some(flight), files, .. } = self
            && let Some(trigger) = flight.triggers.exited(status.cast_signed())
        {
            flight.fire(trigger, Moment::at(record.time_ns), &mut |entry| files.write_late(entry));
        }
    }

    #[cold]
    fn process(&mut self, record: &Record) {
        self.lives.extend(Life::of(record));
        self.files.ledger.revision += 1;
    }
}

impl Sink for Demux {
    fn event(&mut self, record: &Record, more: More<'_>) {
        match record.kind {
            kind::CALL | kind::RETURN => match more {
                More::Detail(detail) => self.function_event(record, Some(&detail)),
                _ => self.function_event(record, None),
            },
            kind::THREAD_EXIT => self.thread_exit(record),
            kind::EXEC => self.exec(record),
            kind::FORK => self.fork(record),
            kind::PROCESS_EXIT => self.exit(record),
            kind::SIGNAL => {
                if let More::Signal(signal) = more {
                    self.signal(record, signal);
                }
            }
            kind::LIBRARIES => self.stopped(record),
            kind::MUTED => self.muted(record),
            _ => {}
        }
    }
}

/// Where the stack was that a signal interrupts; 0, below which there is nothing, if its registers are not known.
fn stack_pointer(signal: &Signal) -> u64 {
    let place = if cfg!(target_arch = "aarch64") { 31 } else { 7 };
    if signal.register_count == 0 { 0 } else { signal.registers.get(place).copied().unwrap_or_default() }
}

fn call_of(record: &Record, returns: Expect) -> Call {
    let chained = record.flags & flags::CHAINED != 0;
    Call { sp: record.sp, function_id: record.function_id, chained, returns, time_ns: record.time_ns }
}
