//! Readable names of C++ and Rust symbols, and comparing them with what a person typed.
//!
//! Invariant: names that are compared have lost their blanks and ABI tags on both sides, so that `f(int, char const*)`
//! is `f(int,char const*)`.

use cpp_demangle::DemangleOptions;

use super::nameless;
use crate::pattern::Pattern;

/// Longer symbols are left mangled.
const MAX_LENGTH: usize = 8192;

/// Words of readable names that the mangled name has no letters of, or only abbreviated.
const NOT_IN_MANGLED: [&str; 46] = [
    "allocator",
    "anonymous",
    "as",
    "auto",
    "basic_istream",
    "basic_ostream",
    "basic_iostream",
    "basic_string",
    "bool",
    "char",
    "char16_t",
    "char32_t",
    "char8_t",
    "clone",
    "const",
    "decltype",
    "delete",
    "double",
    "dyn",
    "float",
    "for",
    "impl",
    "int",
    "iostream",
    "istream",
    "lambda",
    "long",
    "mut",
    "namespace",
    "new",
    "nullptr_t",
    "operator",
    "ostream",
    "short",
    "signed",
    "std",
    "str",
    "string",
    "thunk",
    "to",
    "typename",
    "unsigned",
    "void",
    "volatile",
    "vtable",
    "wchar_t",
];

/// The readable name of a mangled C++ or Rust symbol, Rust without its hash; `None` for any other symbol.
#[must_use]
pub fn demangle(symbol: &str) -> Option<String> {
    demangle_rust(symbol, false).or_else(|| demangle_cpp(symbol, &DemangleOptions::new()))
}

fn demangle_rust(symbol: &str, hash: bool) -> Option<String> {
    if symbol.len() > MAX_LENGTH || !(symbol.starts_with("_R") || is_legacy_rust(symbol)) {
        return None;
    }
    let readable = rustc_demangle::try_demangle(symbol).ok()?;
    Some(if hash { format!("{readable}") } else { format!("{readable:#}") })
}

/// Whether it ends in `17h`, 16 hexadecimal digits and `E`; other symbols of the form `_ZN…E` are C++'s.
fn is_legacy_rust(symbol: &str) -> bool {
    legacy_rust_end(symbol).is_some()
}

/// Where the mangled name ends and a suffix like `.llvm.123` starts, if it is a legacy Rust symbol.
fn legacy_rust_end(symbol: &str) -> Option<usize> {
    const HASH: usize = "17h0123456789abcdefE".len();
    let start = symbol.strip_prefix("_ZN").and_then(|rest| rest.rfind("17h"))? + "_ZN".len();
    let hash = symbol.get(start..start + HASH)?;
    let digits = hash.strip_prefix("17h").and_then(|hash| hash.strip_suffix('E'))?;
    let ends = matches!(symbol.as_bytes().get(start + HASH), None | Some(b'.'));
    (ends && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(start + HASH)
}

fn demangle_cpp(symbol: &str, options: &DemangleOptions) -> Option<String> {
    if symbol.len() > MAX_LENGTH || !symbol.starts_with("_Z") {
        return None;
    }
    cpp_demangle::Symbol::new(symbol).ok()?.demangle_with_options(options).ok()
}

/// A readable name as it was typed.
#[derive(Debug)]
pub(super) struct Wanted {
    normal: String,
    /// A word that the mangled name must hold; spares demangling a million others.
    word: Option<String>,
}

impl Wanted {
    pub(super) fn new(typed: &str) -> Self {
        Self { normal: normalise(typed), word: distinctive_word(typed).map(str::to_owned) }
    }

    /// Whether the symbol's readable name is the wanted one: with or without parameters, return type or hash.
    pub(super) fn matches(&self, symbol: &str) -> bool {
        if !symbol.starts_with('_') || self.word.as_ref().is_some_and(|word| !symbol.contains(word.as_str())) {
            return false;
        }
        let Some(symbol) = without_rename(symbol) else {
            return false;
        };
        if symbol.starts_with("_R") || is_legacy_rust(symbol) {
            return [false, true].iter().any(|&hash| self.is(demangle_rust(symbol, hash)));
        }
        let options = DemangleOptions::new;
        let forms = [options(), options().no_return_type(), options().no_params().no_return_type()];
        forms.iter().any(|options| self.is(demangle_cpp(symbol, options)))
    }

    /// As [`Self::matches`], but the wanted name may be any part of the readable one.
    pub(super) fn is_part_of(&self, readable: &str) -> bool {
        normalise(readable).contains(&self.normal)
    }

    /// Whether a symbol is worth demangling at all.
    pub(super) fn may_match(&self, symbol: &str) -> bool {
        symbol.starts_with('_') && self.word.as_ref().is_some_and(|word| symbol.contains(word.as_str()))
    }

    fn is(&self, readable: Option<String>) -> bool {
        readable.is_some_and(|readable| normalise(&readable) == self.normal)
    }
}

/// A pattern over names, mangled or readable.
#[derive(Debug)]
pub(super) struct NamePattern {
    pattern: Pattern,
    /// The same for names that have lost their blanks and ABI tags; a regular expression sees readable names as they are.
    normal: Option<Pattern>,
    nameless: bool,
}

impl NamePattern {
    pub(super) fn new(pattern: &Pattern) -> Self {
        let normal = (!pattern.is_regex()).then(|| Pattern::glob(&normalise(pattern.text())).ok()).flatten();
        Self { pattern: pattern.clone(), normal, nameless: nameless::are_meant_by(pattern) }
    }

    /// Whether it means functions without a name as well.
    pub(super) fn means_nameless(&self) -> bool {
        self.nameless
    }

    /// Whether the symbol matches as it is, or as its readable name: with parameters, or without them and the return type.
    pub(super) fn matches(&self, symbol: &str) -> bool {
        if self.pattern.matches(symbol) {
            return true;
        }
        if symbol.starts_with("_R") || is_legacy_rust(symbol) {
            return self.is(demangle_rust(symbol, false));
        }
        let options = DemangleOptions::new;
        let forms = [options(), options().no_params().no_return_type()];
        symbol.starts_with("_Z") && forms.iter().any(|options| self.is(demangle_cpp(symbol, options)))
    }

    fn is(&self, readable: Option<String>) -> bool {
        readable.is_some_and(|readable| match &self.normal {
            Some(normal) => normal.matches(&normalise(&readable)),
            None => self.pattern.matches(&readable),
        })
    }
}

/// Link-time optimisation renames a local function without changing it: `f.llvm.123`, `f.lto_priv.0`. Other suffixes
/// (`.cold`, `.part.0`) stand for parts or variants, which nobody who types a plain name means: `None`.
fn without_rename(symbol: &str) -> Option<&str> {
    let end = legacy_rust_end(symbol).or_else(|| symbol.find('.')).unwrap_or(symbol.len());
    let (name, suffix) = symbol.split_at(end);
    (suffix.is_empty() || suffix.starts_with(".llvm.") || suffix.starts_with(".lto_priv.")).then_some(name)
}

/// Without blanks and `[abi:cxx11]`.
fn normalise(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, tag)) = rest.split_once("[abi:") {
        normal.extend(before.chars().filter(|c| !c.is_whitespace()));
        rest = tag.split_once(']').map_or("", |(_, after)| after);
    }
    normal.extend(rest.chars().filter(|c| !c.is_whitespace()));
    normal
}

/// The last identifier before the parameters and outside template arguments that mangling keeps letter by letter.
fn distinctive_word(typed: &str) -> Option<&str> {
    let (mut word, mut start, mut depth) = (None, None, 0_u32);
    for (at, c) in typed.char_indices().chain([(typed.len(), ' ')]) {
        if c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii() {
            start.get_or_insert(at);
            continue;
        }
        if let Some(start) = start.take() {
            let candidate = &typed[start..at];
            let distinctive =
                !NOT_IN_MANGLED.contains(&candidate) && !candidate.starts_with(|c: char| c.is_ascii_digit());
            if depth == 0 && distinctive && candidate.is_ascii() {
                word = Some(candidate);
            }
        }
        match c {
            '(' if word.is_some() && depth == 0 => break,
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_names() {
        let table = [
            ("_ZN2ns5Class6methodEi", Some("ns::Class::method(int)")),
            ("_Z1fIiEvT_", Some("void f<int>(int)")),
            ("_ZN4core3fmt5write17h05af221e174051e9E", Some("core::fmt::write")),
            ("_RNvCs1234_7mycrate3foo", Some("mycrate::foo")),
            ("malloc", None),
            ("_start", None),
            ("_Z", None),
        ];
        for (symbol, readable) in table {
            assert_eq!(demangle(symbol).as_deref(), readable, "{symbol}");
        }
    }

    #[test]
    fn typed_names_match() {
        let table = [
            ("ns::Class::method(int)", "_ZN2ns5Class6methodEi", true),
            ("ns::Class::method", "_ZN2ns5Class6methodEi", true),
            ("ns::Class::method", "_ZNK2ns5Class6methodEi", true),
            ("ns::Class::method(int) const", "_ZNK2ns5Class6methodEi", true),
            ("ns::Class::method(long)", "_ZN2ns5Class6methodEi", false),
            ("Class::method", "_ZN2ns5Class6methodEi", false),
            ("method", "_ZN2ns5Class6methodEi", false),
            ("f<int>", "_Z1fIiEvT_", true),
            ("f<int>(int)", "_Z1fIiEvT_", true),
            ("void f<int>(int)", "_Z1fIiEvT_", true),
            ("f(int,char const*)", "_Z1fiPKc", true),
            ("f(int, char const*)", "_Z1fiPKc", true),
            ("f", "_Z1fiPKc", true),
            ("f", "_Z1fiPKc.cold", false),
            ("f", "_Z1fiPKc.lto_priv.0", true),
            ("A::A", "_ZN1AC1Ev", true),
            ("A::~A", "_ZN1AD2Ev", true),
            ("A::operator()", "_ZN1AclEi", true),
            ("A::operator()(int)", "_ZN1AclEi", true),
            ("operator new", "_Znwm", true),
            ("operator new(unsigned long)", "_Znwm", true),
            ("operator+", "_ZplRK1AS1_", true),
            ("operator<", "_ZltRK1AS1_", true),
            ("(anonymous namespace)::f", "_ZN12_GLOBAL__N_11fEv", true),
            ("std::string::append", "_ZNSs6appendEPKc", true),
            ("f", "_Z1fB5cxx11v", true),
            ("core::fmt::write", "_ZN4core3fmt5write17h05af221e174051e9E", true),
            ("core::fmt::write::h05af221e174051e9", "_ZN4core3fmt5write17h05af221e174051e9E", true),
            ("core::fmt::write", "_ZN4core3fmt5write17h05af221e174051e9E.llvm.42", true),
            (
                "<alloc::string::String as core::fmt::Display>::fmt",
                "_ZN60_$LT$alloc..string..String$u20$as$u20$core..fmt..Display$GT$3fmt17h0123456789abcdefE",
                true,
            ),
            ("<u32 as core::fmt::Debug>::fmt", "_RNvXs_NtCs1234_4core3fmtmNtB4_5Debug3fmt", true),
            ("mycrate::foo", "_RNvCs1234_7mycrate3foo", true),
        ];
        for (typed, symbol, expected) in table {
            assert_eq!(Wanted::new(typed).matches(symbol), expected, "{typed} {symbol} {:?}", demangle(symbol));
        }
    }

    #[test]
    fn patterns_match_mangled_and_readable_names() {
        let glob = |text: &str| NamePattern::new(&Pattern::glob(text).unwrap());
        let regex = |text: &str| NamePattern::new(&Pattern::regex(text).unwrap());
        let table = [
            (glob("mal*"), "malloc", true),
            (glob("mal*"), "xmalloc", false),
            (glob("_ZN2ns*"), "_ZN2ns5Class6methodEi", true),
            (glob("ns::*"), "_ZN2ns5Class6methodEi", true),
            (glob("ns::*"), "_ZN2nt5Class6methodEi", false),
            (glob("ns::*::method"), "_ZN2ns5Class6methodEi", true),
            (glob("ns::*::method(int)"), "_ZN2ns5Class6methodEi", true),
            (glob("ns::*::method(long)"), "_ZN2ns5Class6methodEi", false),
            (glob("f(int, *)"), "_Z1fiPKc", true),
            (glob("core::*::write"), "_ZN4core3fmt5write17h05af221e174051e9E", true),
            (glob("mycrate::*"), "_RNvCs1234_7mycrate3foo", true),
            (regex("^ns::.*::method$"), "_ZN2ns5Class6methodEi", true),
            (regex(r"\(int\)$"), "_ZN2ns5Class6methodEi", true),
            (regex("^mem(cpy|set)$"), "memcpy", true),
            (regex("^mem(cpy|set)$"), "memcpy2", false),
        ];
        for (pattern, symbol, expected) in table {
            assert_eq!(pattern.matches(symbol), expected, "{pattern:?} {symbol}");
        }
    }

    #[test]
    fn distinctive_words() {
        let table = [
            ("ns::Class::method(Other)", Some("method")),
            ("(anonymous namespace)::f(int)", Some("f")),
            ("A::operator()(int)", Some("A")),
            ("std::string::string", None),
            ("<T as core::fmt::Debug>::fmt", Some("fmt")),
            ("int f<int>(B)", Some("f")),
            ("operator new(unsigned long)", None),
        ];
        for (typed, word) in table {
            assert_eq!(distinctive_word(typed), word, "{typed}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text(tail in "[_A-Za-z0-9.$]{0,60}", typed in "\\PC{0,20}") {
            for symbol in [format!("_Z{tail}"), format!("_R{tail}"), format!("_ZN{tail}E")] {
                let _ = demangle(&symbol);
                let _ = Wanted::new(&typed).matches(&symbol);
            }
        }
    }
}
