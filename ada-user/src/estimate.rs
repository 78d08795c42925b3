//! What a recording would cost, from the number of calls within a short time.
//!
//! The prices are measured ones (2 virtual processors at 6.18; absolute times differ from machine to machine, the ratios hold).
//! Invariant: pure numbers; nothing here counts or prints.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    placement::Price,
    plan::{Function, Plan, Returns},
};

/// Events per second that a recording carried without loss on the machine that the prices are from.
pub const CARRIED_PER_S: f64 = 4e6;
/// Bytes of an index event.
const EVENT_BYTES: f64 = 32.0;
/// Bytes of a detail event with registers and no stack.
const DETAIL_BYTES: f64 = 124.0;
/// What writing one event takes within a probe.
const RECORD_NS: u64 = 130;
/// What a probe on a `ret` takes: the instruction is single-stepped.
const EXIT_NS: u64 = 10_000;

/// A function and what it costs.
#[derive(Debug, Clone)]
pub struct Rated<'a> {
    /// The function.
    pub function: &'a Function,
    /// Its calls.
    pub calls: u64,
    /// Its part of all calls, 0 to 1.
    pub share: f64,
}

/// What recording a plan would cost.
#[derive(Debug, Clone)]
pub struct Estimate<'a> {
    /// The time in which calls were counted.
    pub elapsed: Duration,
    /// Functions that were called, by falling number of calls.
    pub functions: Vec<Rated<'a>>,
    /// Calls, in all.
    pub calls: u64,
    /// Calls and returns per second.
    pub events_per_s: f64,
    /// Bytes per second to the disk.
    pub bytes_per_s: f64,
    /// Processor time in probes, in seconds per second.
    pub busy: f64,
}

/// What one recorded call takes from its thread, in nanoseconds.
#[must_use]
pub fn price_ns(site: Price, returns: &Returns) -> u64 {
    let (entry, with_return_probe) = match site {
        Price::Call => (340, 990),
        Price::Emulated => (910, 1170),
        // What is not known had better be overrated.
        Price::Stepped | Price::Refused | Price::Unknown => (10_000, 11_000),
    };
    match returns {
        Returns::NotRecorded(_) => entry + RECORD_NS,
        Returns::Probe => with_return_probe + 2 * RECORD_NS,
        Returns::Exits(_) => entry + EXIT_NS + 2 * RECORD_NS,
    }
}

impl<'a> Estimate<'a> {
    /// What it would cost to record `plan`, of whose functions there were so many `calls` (by function id) within `elapsed`;
    /// those with detail with so much stack.
    #[must_use]
    pub fn new(plan: &'a Plan, calls: &BTreeMap<u64, u64>, elapsed: Duration, stack_bytes: u32) -> Self {
        let all: u64 = calls.values().sum();
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let rated = |function: &'a Function| {
            let calls = *calls.get(&function.id.0)?;
            Some(Rated { function, calls, share: calls as f64 / all.max(1) as f64 })
        };
        let mut functions: Vec<_> = plan.functions.iter().filter_map(rated).collect();
        functions.sort_by_key(|rated| std::cmp::Reverse(rated.calls));
        let events: u64 = functions.iter().map(|rated| rated.calls * rated.events()).sum();
        let busy_ns: u64 = functions.iter().map(|rated| rated.calls * rated.price_ns()).sum();
        let bytes: f64 = functions.iter().map(|rated| rated.calls as f64 * rated.bytes(stack_bytes)).sum();
        let events_per_s = events as f64 / seconds;
        let (bytes_per_s, busy) = (bytes / seconds, busy_ns as f64 / 1e9 / seconds);
        Self { elapsed, functions, calls: all, events_per_s, bytes_per_s, busy }
    }

    /// The most often called functions that have half of all calls between them.
    #[must_use]
    pub fn dominating(&self) -> &[Rated<'a>] {
        let mut share = 0.0;
        let mut count = 0;
        for rated in &self.functions {
            if share >= 0.5 {
                break;
            }
            share += rated.share;
            count += 1;
        }
        self.functions.get(..count).unwrap_or_default()
    }
}

impl Rated<'_> {
    /// What one of its calls takes on disk, with its return, in bytes.
    fn bytes(&self, stack_bytes: u32) -> f64 {
        let index = self.events() as f64 * EVENT_BYTES;
        let detail = self.events() as f64 * DETAIL_BYTES + f64::from(stack_bytes);
        if self.function.detail { index + detail } else { index }
    }

    /// What one of its calls costs, in nanoseconds.
    #[must_use]
    pub fn price_ns(&self) -> u64 {
        price_ns(self.function.price, &self.function.returns)
    }

    fn events(&self) -> u64 {
        if self.function.returns.are_recorded() { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exits::{Exit, Leaves};
    use crate::plan::{FunctionId, ModuleId};

    fn function(index: u32, price: Price, returns: Returns) -> Function {
        Function {
            id: FunctionId::new(ModuleId(0), index),
            name: format!("f{index}"),
            price,
            returns,
            ..Function::default()
        }
    }

    #[test]
    fn a_call_costs_what_its_sites_do() {
        let exits = Returns::Exits(vec![Exit { at: 8, by: Leaves::ByReturn }]);
        assert_eq!(price_ns(Price::Call, &Returns::Probe), 990 + 260);
        assert_eq!(price_ns(Price::Emulated, &Returns::NotRecorded("no")), 910 + 130);
        // An exit is stepped, whatever the entry costs.
        assert_eq!(price_ns(Price::Call, &exits), 340 + 10_000 + 260);
        assert_eq!(price_ns(Price::Stepped, &exits), 20_000 + 260);
        assert_eq!(price_ns(Price::Unknown, &Returns::Probe), price_ns(Price::Stepped, &Returns::Probe));
    }

    #[test]
    fn rates_and_prices_add_up() {
        let functions = vec![
            function(0, Price::Emulated, Returns::NotRecorded("no")),
            function(1, Price::Emulated, Returns::Probe),
            function(2, Price::Stepped, Returns::Probe),
        ];
        let plan = Plan { functions, ..Plan::default() };
        let calls = BTreeMap::from([(0, 100), (1, 1000)]);
        let estimate = Estimate::new(&plan, &calls, Duration::from_secs(2), 128);
        assert_eq!((estimate.calls, estimate.functions.len()), (1100, 2));
        assert_eq!(estimate.functions[0].function.name, "f1");
        assert!((estimate.events_per_s - 1050.0).abs() < 1e-6);
        assert!((estimate.bytes_per_s - 32.0 * 1050.0).abs() < 1e-6);
        let busy_ns = 100 * (910 + 130) + 1000 * (1170 + 260);
        assert!((estimate.busy - f64::from(busy_ns) / 2e9).abs() < 1e-12);
        assert_eq!(estimate.dominating().len(), 1);
        let mut plan = plan.clone();
        plan.functions.iter_mut().for_each(|function| function.detail = true);
        let detail = Estimate::new(&plan, &calls, Duration::from_secs(2), 128);
        assert!((detail.bytes_per_s - (156.0 * 1050.0 + 128.0 * 550.0)).abs() < 1e-6);
    }

    #[test]
    fn nothing_called_costs_nothing() {
        let plan = Plan::default();
        let estimate = Estimate::new(&plan, &BTreeMap::new(), Duration::ZERO, 128);
        assert!(estimate.functions.is_empty() && estimate.dominating().is_empty());
        assert!(estimate.events_per_s == 0.0 && estimate.busy == 0.0);
    }
}
