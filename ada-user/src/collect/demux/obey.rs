//! What a recording is asked over its control socket.
//!
//! Invariant: what cannot be done changes nothing, and the answer says why.

use std::{num::NonZeroU32, path::PathBuf};

use super::Demux;
use crate::{
    collect::flight::{Armed, FlightRecorder, FlightStatus, TriggerId},
    control::{Command, Reply, Status, TriggerInfo},
    plan::Plan,
    trigger::Trigger,
};

/// More are of no use, and each is looked at by whoever writes the events.
const MAX_TRIGGERS: usize = 1000;
const NO_FLIGHT: &str = "it was started without a flight recorder, so there is nothing to mark or trigger: start it with --trigger or --pre-roll";

impl Demux {
    /// Does what somebody asks for over the control socket.
    #[cold]
    pub(crate) fn obey(&mut self, command: &Command, now_ns: u64) -> Reply {
        let (events, lost) = (self.files.ledger.events(), self.files.ledger.lost());
        let Self { flight, files, plan, programs, .. } = self;
        let Some(flight) = flight else {
            let details = files.ledger.threads.values().map(|thread| thread.detail_count).sum();
            return match command {
                Command::Status => Reply::Status(Status { events, lost, details, ..Status::default() }),
                _ => Reply::error(NO_FLIGHT),
            };
        };
        match command {
            Command::Mark { text } => {
                flight.mark(text, now_ns, &mut |entry| files.write_late(entry));
                Reply::Marked { at_ns: now_ns }
            }
            Command::AddTrigger(trigger) => add_trigger(flight, trigger, plan, programs, now_ns),
            Command::RemoveTrigger(id) => remove_trigger(flight, *id),
            Command::ListTriggers => Reply::Triggers { triggers: flight.triggers.iter().map(trigger_info).collect() },
            Command::Status => {
                let FlightStatus { open, windows, details, buffered, buffered_bytes, buffer_bytes } =
                    flight.status(now_ns);
                Reply::Status(Status {
                    events,
                    lost,
                    details,
                    windows,
                    window_open: open,
                    buffered,
                    buffered_bytes,
                    buffer_bytes,
                })
            }
        }
    }
}

fn add_trigger(
    flight: &mut FlightRecorder,
    trigger: &Trigger,
    plan: &Plan,
    programs: &[PathBuf],
    now_ns: u64,
) -> Reply {
    if flight.triggers.iter().count() >= MAX_TRIGGERS {
        return Reply::error(format!("{MAX_TRIGGERS} triggers are armed already; remove some with remove-trigger"));
    }
    let id = flight.triggers.add(trigger.clone(), plan, programs, now_ns);
    let functions = flight.triggers.iter().find(|armed| armed.id == id).map_or(0, |armed| armed.functions.len() as u64);
    if functions > 0 || trigger.when.spec().is_none() {
        return Reply::Added { id: id.0.get(), functions };
    }
    flight.triggers.remove(id);
    Reply::error(format!(
        "{trigger} would never fire: none of its functions is recorded; name some of those that `ada-trace info` lists"
    ))
}

fn remove_trigger(flight: &mut FlightRecorder, id: u32) -> Reply {
    let removed = NonZeroU32::new(id).and_then(|id| flight.triggers.remove(TriggerId(id)));
    match removed {
        Some(trigger) => Reply::Removed { trigger: trigger.to_string() },
        None => Reply::error(format!("there is no trigger {id}; list-triggers tells which there are")),
    }
}

fn trigger_info(armed: &Armed) -> TriggerInfo {
    TriggerInfo {
        id: armed.id.0.get(),
        trigger: armed.trigger.to_string(),
        functions: armed.functions.len() as u64,
        fired: armed.fired,
    }
}
