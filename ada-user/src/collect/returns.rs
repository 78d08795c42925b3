//! How the return of each function will be seen, looked up for every call.

use super::depth::Expect;
use crate::plan::{FunctionId, Plan, Returns};

/// How the returns of functions are recorded, by module and symbol index.
#[derive(Debug)]
pub(super) struct ReturnsTable(Vec<Vec<Expect>>);

impl ReturnsTable {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut table = Self(Vec::new());
        table.extend(plan);
        table
    }

    /// Adds the functions of `plan`.
    pub(super) fn extend(&mut self, plan: &Plan) {
        for function in &plan.functions {
            let (module, symbol) = parts(function.id);
            self.0.resize(self.0.len().max(module + 1), Vec::new());
            if let Some(of_module) = self.0.get_mut(module) {
                of_module.resize(of_module.len().max(symbol + 1), Expect::Nothing);
                of_module[symbol] = expect(&function.returns);
            }
        }
    }

    /// How the return of a call of this function will be seen.
    pub(super) fn of(&self, function_id: u64) -> Expect {
        let (module, symbol) = parts(FunctionId(function_id));
        self.0.get(module).and_then(|of_module| of_module.get(symbol)).copied().unwrap_or_default()
    }
}

fn parts(id: FunctionId) -> (usize, usize) {
    (id.module().0 as usize, (id.0 & u64::from(u32::MAX)) as usize)
}

fn expect(returns: &Returns) -> Expect {
    match returns {
        // What is left otherwise (longjmp, an exception) is told as of any function.
        Returns::NotRecorded(Returns::NO_EXIT) => Expect::Exit,
        Returns::NotRecorded(_) => Expect::Nothing,
        Returns::Probe => Expect::ReturnProbe,
        Returns::Exits(_) => Expect::Exit,
    }
}
