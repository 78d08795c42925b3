//! What a recording is asked over its control socket.
//!
//! Invariant: what cannot be done changes nothing, and the answer says why.

use std::num::NonZeroU32;

use super::Demux;
use crate::{
    collect::{
        Arming, Known,
        flight::{Armed, FlightRecorder, FlightStatus, TriggerId},
    },
    control::{Command, Reply, Status, TriggerInfo},
};

/// More are of no use, and each is looked at by whoever writes the events.
const MAX_TRIGGERS: usize = 1000;
const NO_FLIGHT: &str = "it was started without a flight recorder, so there is nothing to mark or trigger: start it with --trigger or --pre-roll";

impl Demux {
    /// Does what somebody asks for over the control socket.
    #[cold]
    pub(crate) fn obey(&mut self, command: Command, now_ns: u64) -> Reply {
        let (events, lost) = (self.files.ledger.events(), self.files.ledger.lost());
        let Self { flight, files, known, .. } = self;
        let Some(flight) = flight else {
            let details = files.ledger.threads.values().map(|thread| thread.detail_count).sum();
            return match command {
                Command::Status => Reply::Status(Status { events, lost, details, ..Status::default() }),
                _ => Reply::error(NO_FLIGHT),
            };
        };
        match command {
            Command::Mark { text } => {
                flight.mark(&text, now_ns, &mut |entry| files.write_late(entry));
                Reply::Marked { at_ns: now_ns }
            }
            Command::AddTrigger(arming) => add_trigger(flight, *arming, known, now_ns),
            Command::RemoveTrigger(id) => remove_trigger(flight, id),
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

fn add_trigger(flight: &mut FlightRecorder, arming: Arming, known: &Known, now_ns: u64) -> Reply {
    if flight.triggers.iter().count() >= MAX_TRIGGERS {
        return Reply::error(format!("{MAX_TRIGGERS} triggers are armed already; remove some with remove-trigger"));
    }
    let (trigger, functions) = known.complete(arming);
    if functions.is_empty() && trigger.when.spec().is_some() {
        return Reply::error(format!(
            "{trigger} would never fire: none of its functions is recorded; name some of those that `ada-trace info` lists"
        ));
    }
    let count = functions.len() as u64;
    let id = flight.triggers.add(trigger, functions, now_ns);
    Reply::Added { id: id.0.get(), functions: count }
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
