//! Which calls of the chosen functions a recording leaves out, before they are written.
//!
//! Invariant: a call and its return are kept or left out together.

use std::{
    collections::HashSet,
    num::{NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
    time::Duration,
};

use ada_format::wire;

use crate::plan::{Function, Module, ModuleId, Plan, ProbeReport, Returns, Skipped};

/// Why Go's calls are not followed to their returns.
const GOROUTINES: &str = "goroutines take their calls from thread to thread";

/// What is left out. By default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// Only these threads are recorded, by their ids in the tracer's pid namespace; empty: all.
    pub threads: Vec<u32>,
    /// Only calls that took at least that long.
    pub min_duration: Option<Duration>,
    /// One call in so many, chosen at random.
    pub sample: Option<NonZeroU32>,
    /// A function that is called more often, per second, is muted for the rest of the recording.
    pub max_rate: Option<NonZeroU64>,
    /// Only events at a call depth below this.
    pub max_depth: Option<NonZeroU32>,
}

/// Why a recording cannot be filtered as asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FilterError {
    /// A thread is not there.
    #[error("thread {tid} belongs to none of the targets; `ls /proc/{pid}/task` lists the threads of process {pid}")]
    NoSuchThread {
        /// The thread.
        tid: u32,
        /// One of the targets.
        pid: u32,
    },
    /// A minimum duration, and nothing that could be timed.
    #[error("--min-duration times calls by their returns, and none can be timed here ({why}); leave it out")]
    Untimed {
        /// Why one of the functions cannot be timed.
        why: &'static str,
    },
    /// Go's functions, and a filter whose word on a call is kept by thread until its return.
    #[error(
        "--sample and --max-rate bring calls and returns together by thread, and {GOROUTINES}; leave {path} out with --exclude, or record calls alone with --entry-only"
    )]
    Goroutines {
        /// The program or library that is made by Go.
        path: PathBuf,
    },
}

impl Filters {
    /// Checks that each of the threads belongs to one of the processes `pids`.
    ///
    /// # Errors
    /// [`FilterError::NoSuchThread`].
    pub fn check_threads(&self, pids: &[u32]) -> Result<(), FilterError> {
        let is_there = |tid: &u32| pids.iter().any(|pid| Path::new(&format!("/proc/{pid}/task/{tid}")).exists());
        match (self.threads.iter().find(|tid| !is_there(tid)), pids) {
            (Some(tid), [pid, ..]) => Err(FilterError::NoSuchThread { tid: *tid, pid: *pid }),
            _ => Ok(()),
        }
    }

    /// Makes the plan one that can be filtered: what cannot be timed moves to what it skips, if there is a minimum
    /// duration.
    ///
    /// # Errors
    /// [`FilterError::Untimed`] if nothing would be left, [`FilterError::Goroutines`] if calls of Go's functions were to be
    /// chosen by sample or rate, and their returns with them.
    pub fn fit(&self, plan: &mut Plan) -> Result<(), FilterError> {
        if self.min_duration.is_none()
            && let Some(path) =
                plan.modules.iter().find(|module| self.loses_track(plan, module)).map(|it| it.path.clone())
        {
            return Err(FilterError::Goroutines { path });
        }
        match self.leave_out(plan) {
            Some(why) if plan.functions.is_empty() => Err(FilterError::Untimed { why }),
            _ => Ok(()),
        }
    }

    /// Moves all that these filters cannot follow from a call to its return from the plan's functions to those it skips; gives
    /// the first one's reason.
    pub(crate) fn leave_out(&self, plan: &mut Plan) -> Option<&'static str> {
        let lost: HashSet<ModuleId> =
            plan.modules.iter().filter(|module| self.loses_track(plan, module)).map(|module| module.id).collect();
        let obstacle = |function: &Function| match function.returns {
            Returns::NotRecorded(why) => self.min_duration.map(|_| why),
            _ => lost.contains(&function.id.module()).then_some(GOROUTINES),
        };
        let left_out: Vec<Function> = plan.functions.extract_if(.., |function| obstacle(function).is_some()).collect();
        for (function, why) in left_out.iter().filter_map(|function| Some((function, obstacle(function)?))) {
            plan.probes.iter_mut().for_each(|report| skip(report, function, why));
        }
        left_out.first().and_then(obstacle)
    }

    /// Whether calls of a module would have to be followed to their returns, and go from thread to thread in between.
    fn loses_track(&self, plan: &Plan, module: &Module) -> bool {
        let returns = |function: &Function| function.id.module() == module.id && function.returns.are_recorded();
        self.choose_calls() && module.is_go && plan.functions.iter().any(returns)
    }

    /// Whether they let some calls of a function pass and others not.
    fn choose_calls(&self) -> bool {
        self.min_duration.is_some() || self.sample.is_some() || self.max_rate.is_some()
    }

    /// The part that the kernel programs do for a plan, which may grow.
    pub(crate) fn wire(&self, plan: &Plan, grows: bool) -> wire::Filter {
        let min_duration = self.min_duration.unwrap_or_default().as_nanos();
        let returns = grows || plan.functions.iter().any(|function| function.returns.are_recorded());
        let by_call = self.choose_calls();
        wire::Filter {
            min_duration_ns: u64::try_from(min_duration).unwrap_or(u64::MAX),
            max_rate: self.max_rate.map_or(0, NonZeroU64::get),
            sample: self.sample.map_or(0, NonZeroU32::get),
            threads: u32::from(!self.threads.is_empty()),
            frames: u32::from(returns && by_call),
            any: u32::from(by_call || !self.threads.is_empty()),
        }
    }
}

fn skip(report: &mut ProbeReport, function: &Function, why: &str) {
    let before = report.functions.len();
    report.functions.retain(|id| *id != function.id);
    if report.functions.len() < before {
        let why = format!("the filters cannot follow its calls to their returns: {why}");
        report.skipped.push(Skipped { symbol: function.name.clone(), why });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exits::{Exit, Leaves};
    use crate::plan::FunctionId;

    fn exits() -> Returns {
        Returns::Exits(vec![Exit { at: 8, by: Leaves::ByReturn }])
    }

    fn function(index: u32, returns: Returns) -> Function {
        Function { id: FunctionId::new(ModuleId(0), index), name: format!("f{index}"), returns, ..Function::default() }
    }

    fn plan(functions: Vec<Function>) -> Plan {
        let ids = functions.iter().map(|function| function.id).collect();
        let report = ProbeReport { spec: "exe:f*".to_owned(), functions: ids, ..ProbeReport::default() };
        Plan { functions, probes: vec![report], ..Plan::default() }
    }

    /// Function 0 of a Go program and function 1 of its C library.
    fn go_plan(returns: &Returns) -> Plan {
        let module = |id, is_go| Module { id: ModuleId(id), path: format!("m{id}").into(), is_go, ..Module::default() };
        let library = Function { id: FunctionId::new(ModuleId(1), 0), ..function(1, Returns::Probe) };
        let modules = vec![module(0, true), module(1, false)];
        Plan { modules, ..plan(vec![function(0, returns.clone()), library]) }
    }

    fn sampled() -> Filters {
        Filters { sample: NonZeroU32::new(3), ..Filters::default() }
    }

    fn timed() -> Filters {
        Filters { min_duration: Some(Duration::from_micros(50)), ..Filters::default() }
    }

    #[test]
    fn what_cannot_be_timed_is_skipped() {
        let mut plan = plan(vec![function(0, Returns::NotRecorded("it jumps")), function(1, Returns::Probe)]);
        let all = plan.clone();
        Filters::default().fit(&mut plan).unwrap();
        assert_eq!(plan, all);
        timed().fit(&mut plan).unwrap();
        assert_eq!(plan.functions, [function(1, Returns::Probe)]);
        assert_eq!(plan.probes[0].functions, [FunctionId::new(ModuleId(0), 1)]);
        let [skipped] = &plan.probes[0].skipped[..] else { panic!("{:?}", plan.probes) };
        assert!(skipped.symbol == "f0" && skipped.why.ends_with("it jumps"), "{skipped:?}");
    }

    #[test]
    fn nothing_to_time_is_refused() {
        let mut plan = plan(vec![function(0, Returns::NotRecorded("it jumps"))]);
        assert_eq!(timed().fit(&mut plan), Err(FilterError::Untimed { why: "it jumps" }));
    }

    #[test]
    fn calls_of_go_are_not_timed() {
        let mut plan = go_plan(&exits());
        timed().fit(&mut plan).unwrap();
        assert!(plan.functions.len() == 1 && plan.functions[0].name == "f1", "{:?}", plan.functions);
        let [skipped] = &plan.probes[0].skipped[..] else { panic!("{:?}", plan.probes) };
        assert!(skipped.symbol == "f0" && skipped.why.ends_with(GOROUTINES), "{skipped:?}");
        let mut plan = go_plan(&exits());
        plan.functions.truncate(1);
        assert_eq!(timed().fit(&mut plan), Err(FilterError::Untimed { why: GOROUTINES }));
    }

    #[test]
    fn calls_of_go_are_sampled_only_without_their_returns() {
        let limited = Filters { max_rate: NonZeroU64::new(9), ..Filters::default() };
        for filters in [sampled(), limited] {
            let (mut with, mut without) = (go_plan(&exits()), go_plan(&Returns::NotRecorded("--entry-only")));
            assert_eq!(filters.fit(&mut with), Err(FilterError::Goroutines { path: "m0".into() }));
            assert_eq!(filters.fit(&mut without), Ok(()));
            assert_eq!(without, go_plan(&Returns::NotRecorded("--entry-only")));
        }
        assert_eq!(Filters::default().fit(&mut go_plan(&exits())), Ok(()));
    }

    #[test]
    fn what_is_found_later_is_left_out_where_it_would_be_refused() {
        let mut plan = go_plan(&exits());
        assert_eq!(sampled().leave_out(&mut plan), Some(GOROUTINES));
        assert_eq!(plan.functions.iter().map(|function| &function.name[..]).collect::<Vec<_>>(), ["f1"]);
    }

    #[test]
    fn threads_of_other_processes_are_refused() {
        let own = std::process::id();
        let filters = |tid| Filters { threads: vec![tid], ..Filters::default() };
        assert_eq!(filters(own).check_threads(&[own]), Ok(()));
        assert_eq!(filters(1).check_threads(&[own]), Err(FilterError::NoSuchThread { tid: 1, pid: own }));
    }

    #[test]
    fn frames_are_kept_only_where_returns_have_to_follow_calls() {
        let (with, without) = (plan(vec![function(0, Returns::Probe)]), plan(vec![]));
        let wire = sampled().wire(&with, false);
        assert_eq!(wire, wire::Filter { sample: 3, frames: 1, any: 1, ..wire::Filter::NONE });
        assert_eq!((sampled().wire(&without, false).frames, sampled().wire(&without, true).frames), (0, 1));
        assert_eq!(timed().wire(&with, false).min_duration_ns, 50_000);
        assert_eq!(Filters::default().wire(&with, true), wire::Filter::NONE);
        let one_thread = Filters { threads: vec![7], ..Filters::default() };
        assert_eq!(one_thread.wire(&with, true), wire::Filter { threads: 1, any: 1, ..wire::Filter::NONE });
    }
}
