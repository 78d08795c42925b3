//! Probe specs as people type them: `libc:malloc`, `/opt/lib/libx.so:run+0x10`, `exe:ns::Class::*`, `*:/^SSL_/`.
//!
//! Invariant: parsing is pure; it looks at no file and no process, so the same text always gives the same spec.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::pattern::{Pattern, PatternError};

/// One `MODULE:FUNCTION[+OFFSET]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// The spec as it was typed.
    pub text: String,
    /// Where the function is looked for.
    pub module: ModuleSpec,
    /// Which function, and where in it.
    pub function: FunctionSpec,
}

/// The part before the first `:`. `\:` stands for a colon that belongs to a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleSpec {
    /// A library by stem or file name: `libc`, `libc.so.6`; a file name of the executable works too.
    Library(String),
    /// A file by path; anything with a `/`.
    Path(PathBuf),
    /// The program itself: `exe`.
    Executable,
    /// All files of the target that match: by path if the pattern has a `/`, else by stem or file name, the program as
    /// `exe` too.
    Pattern(Pattern),
}

/// The part after the first `:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionSpec {
    /// One function.
    Named {
        /// Symbol name, mangled or demangled, with an optional `@VERSION` or `@@VERSION`.
        name: String,
        /// Bytes from the function's first instruction.
        offset: u64,
    },
    /// A virtual address in the file.
    Address(u64),
    /// All functions that match, mangled or demangled.
    Pattern(Pattern),
}

/// Why a spec is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No `:` in it.
    #[error(
        "'{text}' names no library or program: write LIB:FUNCTION, PATH:FUNCTION or exe:FUNCTION, such as libc:malloc"
    )]
    NoModule {
        /// The spec.
        text: String,
    },
    /// Nothing after the `:`.
    #[error("'{text}' names no function: write one after the colon, such as {module}:main")]
    NoFunction {
        /// The spec.
        text: String,
        /// Its module part.
        module: String,
    },
    /// A number after `+` that is none, or too big.
    #[error(
        "'{text}' has the offset '{offset}', which is no 64-bit number: write decimal (+16) or hexadecimal (+0x10) bytes"
    )]
    BadOffset {
        /// The spec.
        text: String,
        /// What stands after the `+`.
        offset: String,
    },
    /// A glob or regular expression that is none.
    #[error("'{text}': {source}")]
    Pattern {
        /// The spec.
        text: String,
        /// What is wrong with it.
        source: PatternError,
    },
    /// `uretprobe:` or `ur:`.
    #[error("'{text}' asks for a return probe alone: write {rest}, which records calls and returns")]
    ReturnProbe {
        /// The spec.
        text: String,
        /// The spec without its prefix.
        rest: String,
    },
}

impl FromStr for ProbeSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let spec = strip_prefix(text.trim())?;
        let (module, function) = split_module(spec).ok_or_else(|| SpecError::NoModule { text: text.to_owned() })?;
        let function = unquote(function.trim());
        if function.is_empty() {
            return Err(SpecError::NoFunction { text: text.to_owned(), module });
        }
        let wrong = |source| SpecError::Pattern { text: text.to_owned(), source };
        let module = ModuleSpec::from_text(module).map_err(wrong)?;
        let function = match pattern(function) {
            Some(pattern) => FunctionSpec::Pattern(pattern.map_err(wrong)?),
            None => parse_function(function, text)?,
        };
        Ok(Self { text: text.to_owned(), module, function })
    }
}

impl ProbeSpec {
    /// As [`str::parse`], but a text without a module means all modules: `PyMem_*`, `/^_Py/`, `ns::f`. For exclusions.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn parse_anywhere(text: &str) -> Result<Self, SpecError> {
        match text.parse() {
            Err(SpecError::NoModule { .. }) if !text.trim().is_empty() => {
                let spec: Self = format!("*:{}", text.trim()).parse()?;
                Ok(Self { text: text.to_owned(), ..spec })
            }
            parsed => parsed,
        }
    }

    /// Every function of every file of the target.
    #[must_use]
    pub fn everything() -> Self {
        let all = Pattern::everything();
        let function = FunctionSpec::Pattern(all.clone());
        Self { text: "*:*".to_owned(), module: ModuleSpec::Pattern(all), function }
    }
}

impl ProbeSpec {
    /// Whether it looks into many files or for many functions, so that what one of them lacks is no mistake.
    #[must_use]
    pub fn is_wide(&self) -> bool {
        matches!(self.module, ModuleSpec::Pattern(_)) || matches!(self.function, FunctionSpec::Pattern(_))
    }
}

impl fmt::Display for ProbeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ModuleSpec {
    fn from_text(text: String) -> Result<Self, PatternError> {
        Ok(if text.contains(['*', '?']) {
            Self::Pattern(Pattern::glob(&text)?)
        } else if text.contains('/') {
            Self::Path(PathBuf::from(text))
        } else if text == "exe" {
            Self::Executable
        } else {
            Self::Library(text)
        })
    }
}

impl fmt::Display for ModuleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(name) => f.write_str(name),
            Self::Path(path) => path.display().fmt(f),
            Self::Executable => f.write_str("exe"),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

impl fmt::Display for FunctionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { name, offset: 0 } => f.write_str(name),
            Self::Named { name, offset } => write!(f, "{name}+{offset:#x}"),
            Self::Address(address) => write!(f, "+{address:#x}"),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

/// Takes off bpftrace's `u:` or `uprobe:`.
fn strip_prefix(text: &str) -> Result<&str, SpecError> {
    for prefix in ["uretprobe:", "ur:"] {
        if let Some(rest) = text.strip_prefix(prefix) {
            return Err(SpecError::ReturnProbe { text: text.to_owned(), rest: rest.to_owned() });
        }
    }
    let stripped = text.strip_prefix("uprobe:").or_else(|| text.strip_prefix("u:"));
    Ok(stripped.unwrap_or(text))
}

/// Splits at the first `:` that no backslash hides; `None` without one, or with nothing before it.
///
/// `ns::f` has no module either: what follows its first colon starts with a colon.
fn split_module(text: &str) -> Option<(String, &str)> {
    let mut module = String::new();
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            '\\' if text[at + 1..].starts_with(':') => {
                rest.next();
                module.push(':');
            }
            ':' => {
                let function = &text[at + 1..];
                return (!module.is_empty() && !function.starts_with(':')).then_some((module, function));
            }
            c => module.push(c),
        }
    }
    None
}

/// bpftrace quotes names that its grammar would trip over: `exe:"ns::f(int)"`.
fn unquote(function: &str) -> &str {
    let inner = function.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(function)
}

/// `name`, `name+4`, `+0x1139`, `0x1139`.
fn parse_function(function: &str, text: &str) -> Result<FunctionSpec, SpecError> {
    if let Some(address) = function.strip_prefix('+') {
        return Ok(FunctionSpec::Address(parse_offset(address, text)?));
    }
    if function.starts_with("0x") {
        return Ok(FunctionSpec::Address(parse_offset(function, text)?));
    }
    match function.rsplit_once('+') {
        Some((name, offset)) if looks_numeric(offset) => {
            Ok(FunctionSpec::Named { name: name.trim_end().to_owned(), offset: parse_offset(offset, text)? })
        }
        _ => Ok(FunctionSpec::Named { name: function.to_owned(), offset: 0 }),
    }
}

/// A word that starts with a digit. `operator+` and `f<(1)+(2)>` end otherwise, so their `+` belongs to the name.
fn looks_numeric(offset: &str) -> bool {
    offset.starts_with(|c: char| c.is_ascii_digit()) && offset.chars().all(|c| c.is_ascii_alphanumeric())
}

fn parse_offset(offset: &str, text: &str) -> Result<u64, SpecError> {
    let hexadecimal = offset.strip_prefix("0x").or_else(|| offset.strip_prefix("0X"));
    let digits_only = |digits: &str| digits.chars().all(|c| c.is_ascii_hexdigit());
    let number = match hexadecimal {
        Some(digits) if digits_only(digits) => u64::from_str_radix(digits, 16).ok(),
        None if digits_only(offset) => offset.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| SpecError::BadOffset { text: text.to_owned(), offset: offset.to_owned() })
}

/// The pattern that a function part is, if it is one: `/re/`, or a glob.
fn pattern(function: &str) -> Option<Result<Pattern, PatternError>> {
    if let Some(expression) = function.strip_prefix('/') {
        return Some(match expression.strip_suffix('/') {
            Some(expression) => Pattern::regex(expression),
            None => Err(PatternError::OpenRegex),
        });
    }
    is_glob(function).then(|| Pattern::glob(function))
}

/// A `*` or `?` that is no part of a C++ or Rust type: not within brackets, not of an operator, and not the pointer of a
/// return type (`char* f<int>()`).
fn is_glob(function: &str) -> bool {
    let mut depth = 0_i32;
    for (at, c) in function.char_indices() {
        match c {
            '(' | '<' | '[' => depth += 1,
            ')' | '>' | ']' => depth -= 1,
            '?' if depth <= 0 => return true,
            '*' if depth <= 0 && !is_pointer(&function[..at], &function[at + 1..]) => return true,
            _ => {}
        }
    }
    false
}

fn is_pointer(before: &str, after: &str) -> bool {
    let of_operator = before.rfind("operator").is_some_and(|at| !before[at..].contains("::"));
    of_operator || after.starts_with(' ') || after.starts_with("* ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (ModuleSpec, Option<String>, u64) {
        let spec: ProbeSpec = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(spec.text, text);
        match spec.function {
            FunctionSpec::Named { name, offset } => (spec.module, Some(name), offset),
            FunctionSpec::Address(address) => (spec.module, None, address),
            FunctionSpec::Pattern(pattern) => panic!("{text} is the pattern {pattern}"),
        }
    }

    fn library(name: &str) -> ModuleSpec {
        ModuleSpec::Library(name.to_owned())
    }

    #[test]
    fn grammar() {
        let path = |path: &str| ModuleSpec::Path(PathBuf::from(path));
        let exe = ModuleSpec::Executable;
        let table = [
            ("libc:malloc", library("libc"), Some("malloc"), 0),
            ("u:libc:malloc", library("libc"), Some("malloc"), 0),
            ("uprobe:libc:malloc", library("libc"), Some("malloc"), 0),
            ("uprobe:/lib/x.so:f", path("/lib/x.so"), Some("f"), 0),
            ("uprobe:/lib/x.so:\"n::f(int)\"", path("/lib/x.so"), Some("n::f(int)"), 0),
            ("libc.so.6:malloc+4", library("libc.so.6"), Some("malloc"), 4),
            ("libpython3.11:PyObject_Call", library("libpython3.11"), Some("PyObject_Call"), 0),
            ("libstdc++:_Znwm", library("libstdc++"), Some("_Znwm"), 0),
            ("libstdc++:_Znwm+0X10", library("libstdc++"), Some("_Znwm"), 16),
            ("./a.out:main+0x1f", path("./a.out"), Some("main"), 0x1f),
            (r"/tmp/a\:b/x.so:f", path("/tmp/a:b/x.so"), Some("f"), 0),
            ("exe:main", exe.clone(), Some("main"), 0),
            ("exe:+0x1139", exe.clone(), None, 0x1139),
            ("exe:0x1139", exe.clone(), None, 0x1139),
            ("exe:+4409", exe.clone(), None, 4409),
            ("exe:ns::Class::method(int)", exe.clone(), Some("ns::Class::method(int)"), 0),
            ("exe:ns::Class::method(int)+8", exe.clone(), Some("ns::Class::method(int)"), 8),
            ("exe:f(char*, int**)", exe.clone(), Some("f(char*, int**)"), 0),
            ("exe:v<int*>::f", exe.clone(), Some("v<int*>::f"), 0),
            ("exe:char* f<int>(int)", exe.clone(), Some("char* f<int>(int)"), 0),
            ("exe:A::operator*", exe.clone(), Some("A::operator*"), 0),
            ("exe:A::operator->*", exe.clone(), Some("A::operator->*"), 0),
            ("exe:A::operator/", exe.clone(), Some("A::operator/"), 0),
            ("libc:operator+", library("libc"), Some("operator+"), 0),
            ("exe:operator++", exe.clone(), Some("operator++"), 0),
            ("exe:operator++4", exe.clone(), Some("operator+"), 4),
            ("exe:operator+(A const&)", exe.clone(), Some("operator+(A const&)"), 0),
            ("exe:f<(1)+(2)>", exe.clone(), Some("f<(1)+(2)>"), 0),
            ("exe:<T as core::fmt::Debug>::fmt", exe.clone(), Some("<T as core::fmt::Debug>::fmt"), 0),
            (
                "libpthread:pthread_cond_wait@@GLIBC_2.3.2",
                library("libpthread"),
                Some("pthread_cond_wait@@GLIBC_2.3.2"),
                0,
            ),
            ("libc:memcpy@GLIBC_2.2.5+4", library("libc"), Some("memcpy@GLIBC_2.2.5"), 4),
        ];
        for (text, module, name, offset) in table {
            assert_eq!(parse(text), (module, name.map(str::to_owned), offset), "{text}");
        }
    }

    #[test]
    fn refusals() {
        let text = String::from;
        let table = [
            ("", SpecError::NoModule { text: text("") }),
            ("malloc", SpecError::NoModule { text: text("malloc") }),
            ("u:malloc", SpecError::NoModule { text: text("u:malloc") }),
            (":malloc", SpecError::NoModule { text: text(":malloc") }),
            ("ns::f", SpecError::NoModule { text: text("ns::f") }),
            ("libc:", SpecError::NoFunction { text: text("libc:"), module: text("libc") }),
            ("libc:/mal", SpecError::Pattern { text: text("libc:/mal"), source: PatternError::OpenRegex }),
            ("exe:+", SpecError::BadOffset { text: text("exe:+"), offset: text("") }),
            ("exe:+zz", SpecError::BadOffset { text: text("exe:+zz"), offset: text("zz") }),
            ("exe:f+0x", SpecError::BadOffset { text: text("exe:f+0x"), offset: text("0x") }),
            ("exe:f+12q", SpecError::BadOffset { text: text("exe:f+12q"), offset: text("12q") }),
            (
                "exe:f+99999999999999999999",
                SpecError::BadOffset { text: text("exe:f+99999999999999999999"), offset: text("99999999999999999999") },
            ),
            ("ur:libc:malloc", SpecError::ReturnProbe { text: text("ur:libc:malloc"), rest: text("libc:malloc") }),
        ];
        for (spec, error) in table {
            assert_eq!(spec.parse::<ProbeSpec>(), Err(error), "{spec}");
        }
    }

    #[test]
    fn patterns() {
        let parse = |text: &str| text.parse::<ProbeSpec>().map(|spec| (spec.module, spec.function));
        let glob = |text: &str| Pattern::glob(text).unwrap();
        let functions = [
            ("libc:mal*", glob("mal*")),
            ("libc:m?lloc", glob("m?lloc")),
            ("libc:*", glob("*")),
            ("libc:ns::*", glob("ns::*")),
            ("libc:/^mal/", Pattern::regex("^mal").unwrap()),
            ("libc:/a:b/", Pattern::regex("a:b").unwrap()),
        ];
        for (text, pattern) in functions {
            assert_eq!(parse(text), Ok((library("libc"), FunctionSpec::Pattern(pattern))), "{text}");
        }
        let named = FunctionSpec::Named { name: "malloc".to_owned(), offset: 0 };
        assert_eq!(parse("*:malloc"), Ok((ModuleSpec::Pattern(glob("*")), named.clone())));
        assert_eq!(parse("libstd*:malloc"), Ok((ModuleSpec::Pattern(glob("libstd*")), named.clone())));
        assert!(matches!(parse("libc:*a["), Err(SpecError::Pattern { .. })));
        assert!(matches!(parse("libc:/(/"), Err(SpecError::Pattern { .. })));
        let anywhere = |text| ProbeSpec::parse_anywhere(text).map(|spec| (spec.text, spec.module, spec.function));
        assert_eq!(anywhere("malloc"), Ok(("malloc".to_owned(), ModuleSpec::Pattern(glob("*")), named.clone())));
        assert_eq!(anywhere("libc:malloc"), Ok(("libc:malloc".to_owned(), library("libc"), named)));
        assert!(anywhere("").is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = text.parse::<ProbeSpec>();
            let _ = ProbeSpec::parse_anywhere(&text);
        }
    }
}
