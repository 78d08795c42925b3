//! Types and names of what functions take and give back: resolved when a recording starts, kept in its manifest.
//!
//! Invariant: a function gets a signature by certain knowledge or none; then its registers stand for themselves.

mod capture;
mod classify;
mod dwarf;
mod form;
mod known;
mod model;
mod text;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ada_format::manifest::{Form, Location, Parameter, Part, Signature, Source, Value};

use self::classify::{Placed, Registers};
use self::dwarf::DebugInfo;
use self::form::Forms;
use self::model::{Declared, Language, Prototype, Type};
use crate::elf::{Elf, Machine, open_debug_file};
use crate::plan::{self, Plan};

/// Why a function has no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypesError {
    /// Nothing says what it takes.
    #[error("no debug information for {function} in {module}", module = module.display())]
    NoDebugInfo {
        /// Its name.
        function: String,
        /// Its file, as the target sees it.
        module: PathBuf,
    },
    /// The compiler made a copy of it that takes something else than the source says.
    #[error("the compiler changed the parameters of {function} in {module}", module = module.display())]
    Changed {
        /// Its name.
        function: String,
        /// Its file, as the target sees it.
        module: PathBuf,
    },
    /// Values are passed in a way that is not known here.
    #[error("how {function} in {module} gets its parameters is not known for {what}", module = module.display())]
    Convention {
        /// Its name.
        function: String,
        /// Its file, as the target sees it.
        module: PathBuf,
        /// The language or processor.
        what: &'static str,
    },
    /// The file cannot be read.
    #[error("{module} cannot be read: {what}", module = module.display())]
    Unreadable {
        /// Its file.
        module: PathBuf,
        /// Why not.
        what: String,
    },
}

/// A function whose arguments are recorded as raw registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its name for people.
    pub function: String,
    /// Its file, as the target sees it.
    pub module: PathBuf,
    /// Why it has no signature.
    pub why: TypesError,
}

/// Fills in signature and capture of all functions with detail; gives those whose types are not known, in the plan's order.
///
/// `string_max` is how many bytes are copied of each string or struct; with 0, no memory is. `root` is the target's root
/// folder, and `symbols` are files that may hold debug information of some module.
pub fn annotate(plan: &mut Plan, string_max: u32, root: &Path, symbols: &[PathBuf]) -> Vec<Missing> {
    let mut signatures = Signatures::new(root, symbols, string_max);
    let mut missing = Vec::new();
    for function in plan.functions.iter_mut().filter(|function| function.detail) {
        // A plan that grows another begins with a later module.
        let module = plan.modules.iter().find(|module| module.id == function.id.module());
        let Some(module) = module else { continue };
        match signatures.signature_of(module, function) {
            Ok(mut signature) => {
                function.capture = if string_max > 0 { capture::assign(&mut signature) } else { None };
                function.signature = Some(Box::new(signature));
            }
            Err(why) => {
                let name = function.demangled.as_ref().unwrap_or(&function.name).clone();
                missing.push(Missing { function: name, module: module.path.clone(), why });
            }
        }
    }
    missing
}

/// How many bytes of stack have to be recorded for all parameters to be there.
#[must_use]
pub fn stack_needed(plan: &Plan) -> u32 {
    let signatures = plan.functions.iter().filter_map(|function| function.signature.as_ref());
    let parts = signatures.flat_map(|signature| &signature.parameters).flat_map(|parameter| &parameter.value.place);
    let end = |part: &Part| match part.at {
        Location::Stack(start) => start.saturating_add(part.size),
        Location::Register(_) => 0,
    };
    parts.map(end).max().unwrap_or(0)
}

/// Looks signatures up; each file is read once.
pub struct Signatures {
    root: PathBuf,
    symbols: Vec<PathBuf>,
    string_max: u32,
    modules: HashMap<PathBuf, Result<Rc<Code>, String>>,
}

/// What a module's code says about its functions.
struct Code {
    machine: Machine,
    debug: Option<DebugInfo>,
}

impl std::fmt::Debug for Signatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signatures").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Signatures {
    /// For a target whose root folder is `root`; `symbols` and `string_max` as in [`annotate`].
    #[must_use]
    pub fn new(root: &Path, symbols: &[PathBuf], string_max: u32) -> Self {
        Self { root: root.to_owned(), symbols: symbols.to_vec(), string_max, modules: HashMap::new() }
    }

    /// The signature of a function, without slots.
    ///
    /// # Errors
    /// [`TypesError`] if it is not known what the function takes, or where that is.
    pub fn signature_of(&mut self, module: &plan::Module, function: &plan::Function) -> Result<Signature, TypesError> {
        let (name, path) = (function.demangled.as_ref().unwrap_or(&function.name), &module.path);
        let convention = |what| TypesError::Convention { function: name.clone(), module: path.clone(), what };
        if module.is_go {
            return Err(convention("Go"));
        }
        let code = self.code(module)?;
        if code.machine != Machine::X86_64 {
            return Err(convention("this processor"));
        }
        let names = std::iter::once(&function.name).chain(&function.aliases).map(String::as_str);
        if let Some(known) = known::signature(path, names) {
            return Ok(known.clone());
        }
        if is_changed(&function.name) {
            return Err(TypesError::Changed { function: name.clone(), module: path.clone() });
        }
        let debug = code.debug.as_ref();
        let prototype = debug.and_then(|debug| debug.prototype(function.address, &function.name));
        let prototype =
            prototype.ok_or_else(|| TypesError::NoDebugInfo { function: name.clone(), module: path.clone() })?;
        if prototype.language == Language::Go {
            return Err(convention("Go"));
        }
        Ok(signature(&prototype, self.string_max))
    }

    fn code(&mut self, module: &plan::Module) -> Result<Rc<Code>, TypesError> {
        let (root, symbols) = (&self.root, &self.symbols);
        let open = || Code::open(module, root, symbols).map(Rc::new);
        let code = self.modules.entry(module.open_path.clone()).or_insert_with(open).clone();
        code.map_err(|what| TypesError::Unreadable { module: module.path.clone(), what })
    }
}

impl Code {
    fn open(module: &plan::Module, root: &Path, symbols: &[PathBuf]) -> Result<Self, String> {
        let elf = Elf::open(&module.open_path).map_err(|error| error.to_string())?;
        let given = || {
            let files = symbols.iter().filter_map(|path| Elf::open(path).ok());
            let mut own = files.filter(|file| file.is_same_build(&elf));
            own.find_map(|file| DebugInfo::open(&file, root))
        };
        let separate = || DebugInfo::open(&open_debug_file(&elf, &module.path, root)?, root);
        let debug = given().or_else(|| DebugInfo::open(&elf, root)).or_else(separate);
        Ok(Self { machine: elf.machine(), debug })
    }
}

/// GCC's names for copies with fewer or other parameters.
fn is_changed(name: &str) -> bool {
    [".isra.", ".constprop.", ".part."].iter().any(|mark| name.contains(mark))
}

/// Places all values of a prototype.
fn signature(prototype: &Prototype, string_max: u32) -> Signature {
    let language = prototype.language;
    let forms = Forms { language, copied: string_max };
    let mut registers = Registers::default();
    // An object that is given back in memory takes the first register for its address.
    let returned = prototype.returns.as_ref().map(|of| (of, registers.returned(of, language)));
    let returns = returned.map(|(of, placed)| value(of, placed, forms));
    let by_rule = prototype.parameters.iter().map(|declared| registers.parameter(&declared.of, language)).collect();
    let placed = classify::correct(&prototype.parameters, by_rule, language);
    let parameter = |(declared, placed): (&Declared, Placed)| Parameter {
        name: declared.name.clone(),
        value: value(&declared.of, placed, forms),
        only_if: None,
    };
    let parameters = prototype.parameters.iter().zip(placed).map(parameter).collect();
    Signature { parameters, returns, variadic: prototype.variadic, source: Source::Dwarf }
}

fn value(of: &Type, placed: Placed, forms: Forms) -> Value {
    let form = if placed.by_address { Form::Reference { to: Box::new(forms.plain(of)) } } else { forms.of(of) };
    Value { type_name: of.name.clone(), form, place: placed.parts, slot: None }
}
