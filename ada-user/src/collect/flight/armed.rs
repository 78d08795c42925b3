//! The triggers that are armed, and which functions fire them.
//!
//! Invariant: asking about a call or return is two look-ups by number, however many triggers there are.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc};

use crate::{
    plan::{FunctionId, Plan},
    resolve, timespan,
    trigger::{Trigger, When},
};

/// A trigger of a recording; none has the id of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TriggerId(pub NonZeroU32);

/// An armed trigger.
#[derive(Debug)]
pub struct Armed {
    /// Its id.
    pub id: TriggerId,
    /// The trigger.
    pub trigger: Trigger,
    /// The functions that fire it, if functions do.
    pub functions: Vec<FunctionId>,
    /// How often it has fired.
    pub fired: u64,
    text: Arc<str>,
    /// When it fires next, if it is one of time.
    due_ns: u64,
}

/// Which triggers a function fires. Of several, the first; of several that wait for slow calls, the least patient.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    symbol: Option<TriggerId>,
    slow: Option<TriggerId>,
    over_ns: u64,
}

/// All armed triggers.
#[derive(Debug, Default)]
pub struct TriggerTable {
    armed: Vec<Armed>,
    last_id: u32,
    /// By module and symbol index.
    watches: Vec<Vec<Watch>>,
}

impl TriggerTable {
    /// Arms a trigger that `functions` fire, if functions do, at the time `now_ns`.
    pub fn add(&mut self, trigger: Trigger, mut functions: Vec<FunctionId>, now_ns: u64) -> TriggerId {
        functions.sort_unstable();
        functions.dedup();
        let id = TriggerId(NonZeroU32::MIN.saturating_add(self.last_id));
        self.last_id = id.0.get();
        let text = Arc::from(trigger.text.as_str());
        let due_ns = match trigger.when {
            When::Every(time) => now_ns.saturating_add(timespan::nanoseconds(time)),
            _ => u64::MAX,
        };
        let armed = Armed { id, trigger, functions, fired: 0, text, due_ns };
        watch(&mut self.watches, &armed);
        self.armed.push(armed);
        id
    }

    /// Disarms a trigger. `None` if none has that id.
    pub fn remove(&mut self, id: TriggerId) -> Option<Trigger> {
        let at = self.armed.iter().position(|armed| armed.id == id)?;
        let armed = self.armed.remove(at);
        self.rebuild();
        Some(armed.trigger)
    }

    /// Looks the triggers' functions up among those of `addition`, too.
    pub fn extend(&mut self, addition: &Plan, programs: &[PathBuf]) {
        for armed in &mut self.armed {
            if let Some(spec) = armed.trigger.when.spec() {
                armed.functions.extend(resolve::among(spec, addition, programs));
                armed.functions.sort_unstable();
                armed.functions.dedup();
            }
        }
        self.rebuild();
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Armed> {
        self.armed.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    /// The trigger that a call of this function fires.
    #[inline]
    #[must_use]
    pub fn called(&self, function_id: u64) -> Option<TriggerId> {
        self.watch(function_id)?.symbol
    }

    /// The trigger that a return from this function fires after so long.
    #[inline]
    #[must_use]
    pub fn returned(&self, function_id: u64, took_ns: u64) -> Option<TriggerId> {
        let watch = self.watch(function_id)?;
        watch.slow.filter(|_| took_ns > watch.over_ns)
    }

    /// The trigger that this signal fires.
    #[must_use]
    pub fn signalled(&self, number: u32) -> Option<TriggerId> {
        let number = i32::try_from(number).unwrap_or_default();
        self.first(|when| matches!(when, When::Signal(wanted) if wanted.is_empty() || wanted.contains(&number)))
    }

    /// The trigger that the end of a process with that wait(2) status fires.
    #[must_use]
    pub fn exited(&self, status: i32) -> Option<TriggerId> {
        self.first(|when| matches!(when, When::Exit(test) if test.passes(status)))
    }

    /// A trigger whose time is up at `now_ns`, and when it was: once for all that was missed. Ask until there is none.
    pub fn due(&mut self, now_ns: u64) -> Option<(TriggerId, u64)> {
        self.armed.iter_mut().find_map(|armed| armed.due(now_ns))
    }

    /// Its kind and text, of one that fires now.
    pub(super) fn fire(&mut self, id: TriggerId) -> Option<(&'static str, Arc<str>)> {
        let armed = self.armed.iter_mut().find(|armed| armed.id == id)?;
        armed.fired += 1;
        Some((armed.trigger.when.kind(), Arc::clone(&armed.text)))
    }

    #[inline]
    fn watch(&self, function_id: u64) -> Option<&Watch> {
        let (module, symbol) = parts(FunctionId(function_id));
        self.watches.get(module)?.get(symbol)
    }

    fn first(&self, fires: impl Fn(&When) -> bool) -> Option<TriggerId> {
        self.armed.iter().find(|armed| fires(&armed.trigger.when)).map(|armed| armed.id)
    }

    fn rebuild(&mut self) {
        self.watches.clear();
        self.armed.iter().for_each(|armed| watch(&mut self.watches, armed));
    }
}

impl Watch {
    fn extend(&mut self, armed: &Armed) {
        match armed.trigger.when {
            When::Slow { over, .. } => {
                let over_ns = timespan::nanoseconds(over);
                if self.slow.is_none() || over_ns < self.over_ns {
                    (self.slow, self.over_ns) = (Some(armed.id), over_ns);
                }
            }
            _ => self.symbol = self.symbol.or(Some(armed.id)),
        }
    }
}

impl Armed {
    fn due(&mut self, now_ns: u64) -> Option<(TriggerId, u64)> {
        let When::Every(time) = self.trigger.when else { return None };
        let late_ns = now_ns.checked_sub(self.due_ns)?;
        let interval = timespan::nanoseconds(time).max(1);
        let at_ns = self.due_ns.saturating_add(late_ns / interval * interval);
        self.due_ns = at_ns.saturating_add(interval);
        Some((self.id, at_ns))
    }
}

fn watch(watches: &mut Vec<Vec<Watch>>, armed: &Armed) {
    for function in &armed.functions {
        watch_of(watches, *function).extend(armed);
    }
}

fn watch_of(watches: &mut Vec<Vec<Watch>>, function: FunctionId) -> &mut Watch {
    let (module, symbol) = parts(function);
    watches.resize(watches.len().max(module + 1), Vec::new());
    let of_module = &mut watches[module];
    of_module.resize(of_module.len().max(symbol + 1), Watch::default());
    &mut of_module[symbol]
}

fn parts(id: FunctionId) -> (usize, usize) {
    (id.module().0 as usize, (id.0 & u64::from(u32::MAX)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Function, Module, ModuleId};

    const S: u64 = 1_000_000_000;

    fn plan(names: &[&str]) -> Plan {
        let function = |(index, name): (usize, &&str)| Function {
            id: FunctionId::new(ModuleId(0), index as u32),
            name: (*name).to_owned(),
            ..Function::default()
        };
        let module = Module { path: "/lib/libx.so".into(), ..Module::default() };
        Plan { modules: vec![module], functions: names.iter().enumerate().map(function).collect(), ..Plan::default() }
    }

    fn table(texts: &[&str], names: &[&str]) -> TriggerTable {
        let mut table = TriggerTable::default();
        for text in texts {
            let trigger: Trigger = text.parse().unwrap();
            let functions = trigger.when.spec().map(|spec| resolve::among(spec, &plan(names), &[]));
            table.add(trigger, functions.unwrap_or_default(), 100 * S);
        }
        table
    }

    fn id(number: u32) -> Option<TriggerId> {
        NonZeroU32::new(number).map(TriggerId)
    }

    #[test]
    fn functions_fire_what_waits_for_them() {
        let texts = ["symbol=libx:a", "slow=libx:b>2s", "slow=libx:*>3s", "slow=libx:b>1s", "symbol=libx:/./"];
        let mut table = table(&texts, &["a", "b"]);
        assert_eq!(
            [table.called(0), table.called(1), table.called(2), table.called(u64::MAX)],
            [id(1), id(5), None, None]
        );
        assert_eq!([table.returned(1, S), table.returned(1, S + 1)], [None, id(4)]);
        assert_eq!([table.returned(0, 3 * S), table.returned(0, 4 * S)], [None, id(3)]);
        assert!(
            table.remove(TriggerId(NonZeroU32::MIN)).is_some() && table.remove(TriggerId(NonZeroU32::MIN)).is_none()
        );
        assert_eq!(table.called(0), id(5));
        table.extend(&plan(&["a", "b", "c"]), &[]);
        assert_eq!(table.called(2), id(5));
        assert_eq!(table.add("exit".parse().unwrap(), Vec::new(), 0), id(6).unwrap());
        assert_eq!(
            table.fire(id(6).unwrap()).map(|(kind, text)| (kind, text.to_string())),
            Some(("exit", "exit".into()))
        );
        assert_eq!(table.iter().last().unwrap().fired, 1);
    }

    #[test]
    fn signals_and_exits() {
        let table = table(&["signal=SEGV,6", "exit=3", "exit!=0"], &[]);
        assert_eq!([6, 11, 9].map(|number| table.signalled(number)), [id(1), id(1), None]);
        assert_eq!([0x300, 0x100, 0, 9].map(|status| table.exited(status)), [id(2), id(3), None, id(3)]);
    }

    #[test]
    fn what_is_late_fires_once() {
        let mut table = table(&["every=10s"], &[]);
        assert_eq!(table.due(109 * S), None);
        assert_eq!(table.due(110 * S), Some((id(1).unwrap(), 110 * S)));
        assert_eq!(table.due(111 * S), None);
        assert_eq!(table.due(155 * S), Some((id(1).unwrap(), 150 * S)));
        assert_eq!(table.due(155 * S), None);
        assert_eq!(table.due(160 * S), Some((id(1).unwrap(), 160 * S)));
    }
}
