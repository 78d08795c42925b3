//! The functions that triggers choose among: those of a recording as it began, and what was added since.
//!
//! Invariant: names are looked up without a lock, by whoever wants a trigger; the pump looks at what came in between alone.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    plan::{FunctionId, Plan},
    resolve,
    trigger::Trigger,
};

/// All functions of a recording, shared by those who resolve triggers.
#[derive(Debug, Default)]
pub(crate) struct Known {
    first: Plan,
    additions: Mutex<Vec<Arc<Plan>>>,
    programs: Vec<PathBuf>,
}

/// A trigger with the functions that fire it, ready to be armed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arming {
    /// The trigger.
    pub trigger: Trigger,
    /// The functions, if functions fire it.
    pub(crate) functions: Vec<FunctionId>,
    /// How many additions were known.
    as_of: usize,
}

impl Known {
    /// A recording of `plan`; `programs` are what `exe` stands for.
    pub(crate) fn new(plan: &Plan, programs: Vec<PathBuf>) -> Self {
        Self { first: plan.clone(), additions: Mutex::default(), programs }
    }

    /// Looks up what fires a trigger. With many functions that takes a while.
    pub(crate) fn arming(&self, trigger: Trigger) -> Arming {
        let additions = self.lock().clone();
        let plans = std::iter::once(&self.first).chain(additions.iter().map(|addition| &**addition));
        let functions = plans.flat_map(|plan| self.among(&trigger, plan)).collect();
        Arming { trigger, functions, as_of: additions.len() }
    }

    /// Adds the functions that came after the trigger was looked up: few, or none.
    pub(crate) fn complete(&self, mut arming: Arming) -> (Trigger, Vec<FunctionId>) {
        let additions = self.lock();
        for addition in additions.iter().skip(arming.as_of) {
            arming.functions.extend(self.among(&arming.trigger, addition));
        }
        (arming.trigger, arming.functions)
    }

    /// More functions are recorded.
    pub(crate) fn add(&self, addition: &Plan) {
        self.lock().push(Arc::new(addition.clone()));
    }

    pub(crate) fn programs(&self) -> &[PathBuf] {
        &self.programs
    }

    fn among(&self, trigger: &Trigger, plan: &Plan) -> Vec<FunctionId> {
        trigger.when.spec().map_or(Vec::new(), |spec| resolve::among(spec, plan, &self.programs))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Plan>>> {
        self.additions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Function, Module, ModuleId};

    fn plan(module: u32, name: &str) -> Plan {
        let id = ModuleId(module);
        let function = Function { id: FunctionId::new(id, 0), name: name.to_owned(), ..Function::default() };
        let module = Module { id, path: format!("/lib/lib{name}.so").into(), ..Module::default() };
        Plan { modules: vec![module], functions: vec![function], ..Plan::default() }
    }

    #[test]
    fn what_comes_between_the_look_and_the_arming_is_not_forgotten() {
        let known = Known::new(&plan(0, "a"), Vec::new());
        known.add(&plan(1, "b"));
        let trigger: Trigger = "symbol=*:*".parse().unwrap();
        let arming = known.arming(trigger.clone());
        assert_eq!(arming.functions.len(), 2);
        known.add(&plan(2, "c"));
        let (_, functions) = known.complete(arming);
        assert_eq!(functions, [0, 1, 2].map(|module| FunctionId::new(ModuleId(module), 0)));
        let (_, functions) = known.complete(known.arming("exit".parse().unwrap()));
        assert_eq!(functions, []);
    }
}
