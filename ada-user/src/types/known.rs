//! Signatures of well-known libc functions, which need no debug information and know the names of flags.
//!
//! Invariant: the table is part of the program, and a test parses all of it; a line that could not be parsed would only
//! be a function less.

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

use ada_format::manifest::{Condition, Form, Named, Parameter, Signature, Source, Value};

use super::classify::Registers;

const TABLE: &str = include_str!("known.txt");

/// `O_CREAT` and the bit that is `O_TMPFILE`'s own: only with these does open read a mode.
const MODE_BITS: u64 = 0o20_000_100;

/// The signature of `name` in the module at `path`, if that is a libc and the function well-known.
pub(super) fn signature<'a>(path: &Path, names: impl IntoIterator<Item = &'a str>) -> Option<&'static Signature> {
    if !is_libc(path) {
        return None;
    }
    let table = table();
    names.into_iter().find_map(|name| variants(name).find_map(|name| table.get(name)))
}

/// glibc, its former parts, and musl, by the names of their files.
fn is_libc(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stems =
        ["libc.so", "libc-2.", "libpthread.so", "libpthread-2.", "libdl.so", "libdl-2.", "ld-musl-", "libc.musl-"];
    stems.iter().any(|stem| name.starts_with(stem))
}

/// The name that a function is known by, from the many that libc gives it: `__open64`, `__strlen_avx2`, `_IO_puts`.
fn variants(name: &str) -> impl Iterator<Item = &str> {
    let name = name.split('@').next().unwrap_or(name);
    let bare = ["__libc_", "__GI_", "_IO_", "__"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let bare = bare.trim_start_matches('_');
    let bare = bare.strip_suffix("_nocancel").unwrap_or(bare);
    let narrow = bare.strip_suffix("64").or_else(|| bare.strip_suffix("64_time64")).unwrap_or(bare);
    // open64_2 checks, and is open_2 otherwise.
    let checked = match bare {
        "open64_2" => "open_2",
        "openat64_2" => "openat_2",
        _ => bare,
    };
    let tuned = ["_sse", "_avx", "_evex", "_erms", "_ssse"].iter().find_map(|tune| bare.find(tune));
    let tuned = tuned.and_then(|end| bare.get(..end));
    [Some(name), Some(bare), Some(narrow), Some(checked), tuned].into_iter().flatten()
}

fn table() -> &'static HashMap<&'static str, Signature> {
    static PARSED: OnceLock<HashMap<&'static str, Signature>> = OnceLock::new();
    PARSED.get_or_init(|| {
        let sets: HashMap<&str, Form> = lines().filter_map(set).collect();
        lines().filter_map(|line| function(line, &sets)).collect()
    })
}

fn lines() -> impl Iterator<Item = &'static str> {
    TABLE.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// `enum NAME: A=1 B=2`, `flags NAME/3: A=1 B=2`.
fn set(line: &'static str) -> Option<(&'static str, Form)> {
    let (head, entries) = line.split_once(": ")?;
    let (kind, name) = head.split_once(' ')?;
    let names = entries.split(' ').map(named).collect::<Option<Vec<_>>>()?;
    match kind {
        "enum" => Some((name, Form::Enum { size: 4, names })),
        "flags" => {
            let (name, part) = name.split_once('/')?;
            Some((name, Form::Flags { size: 4, number: number(part)?.cast_unsigned(), names }))
        }
        _ => None,
    }
}

fn named(entry: &str) -> Option<Named> {
    let (name, value) = entry.split_once('=')?;
    Some(Named { name: name.to_owned(), value: number(value)? })
}

/// As C writes numbers.
fn number(text: &str) -> Option<i64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return i64::from_str_radix(digits, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => i64::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

fn function(line: &'static str, sets: &HashMap<&str, Form>) -> Option<(&'static str, Signature)> {
    let (head, rest) = line.split_once('(')?;
    let (returned, name) = split_name(head)?;
    let rest = rest.strip_suffix(')')?;
    let texts: Vec<&str> = rest.split(", ").filter(|text| *text != "void").collect();
    let declared: Vec<&str> = texts.iter().copied().filter(|text| *text != "...").collect();
    let names = declared.iter().map(|text| Declaration::parse(text)).collect::<Option<Vec<_>>>()?;
    let position = |name: &str| names.iter().position(|declaration| declaration.name == name);
    let mut registers = Registers::default();
    let mut parameters = Vec::new();
    for declaration in &names {
        let form = match (declaration.length, declaration.set) {
            (Some(length), _) => Form::Buffer { length: position(length)? },
            (None, Some(set)) => sets.get(set)?.clone(),
            (None, None) => form(declaration.type_name)?,
        };
        let only_if = match declaration.condition {
            Some(flags) => Some(Condition { parameter: position(flags)?, bits: MODE_BITS }),
            None => None,
        };
        let value = Value { type_name: declaration.type_name.to_owned(), form, place: registers.word(), slot: None };
        parameters.push(Parameter { name: declaration.name.to_owned(), value, only_if });
    }
    let returns = match returned {
        "void" => None,
        returned => Some(Value {
            type_name: returned.to_owned(),
            form: result(returned)?,
            place: Registers::result(),
            slot: None,
        }),
    };
    Some((name, Signature { parameters, returns, variadic: texts.contains(&"..."), source: Source::Known }))
}

/// A parameter as a line declares it.
struct Declaration {
    type_name: &'static str,
    name: &'static str,
    set: Option<&'static str>,
    length: Option<&'static str>,
    condition: Option<&'static str>,
}

impl Declaration {
    fn parse(text: &'static str) -> Option<Self> {
        let (text, condition) = cut(text, '?');
        let (text, set) = cut(text, ':');
        let (text, length) = cut(text, '[');
        let length = match length {
            Some(length) => Some(length.strip_suffix(']')?),
            None => None,
        };
        let (type_name, name) = split_name(text)?;
        Some(Self { type_name, name, set, length, condition })
    }
}

fn cut(text: &'static str, at: char) -> (&'static str, Option<&'static str>) {
    text.split_once(at).map_or((text, None), |(before, behind)| (before, Some(behind)))
}

/// `const char *path` is a `const char *` called `path`.
fn split_name(text: &'static str) -> Option<(&'static str, &'static str)> {
    let start = text.rfind([' ', '*'])? + 1;
    let (type_name, name) = (text.get(..start)?.trim_end(), text.get(start..)?);
    (!type_name.is_empty() && !name.is_empty()).then_some((type_name, name))
}

fn form(type_name: &str) -> Option<Form> {
    Some(match type_name {
        "const char *" => Form::CString,
        pointer if pointer.ends_with('*') => Form::Pointer { to: None },
        "va_list" => Form::Pointer { to: None },
        "pthread_t" => Form::Pointer { to: None },
        "int" | "pid_t" | "clockid_t" => Form::Signed { size: 4 },
        "unsigned int" | "uid_t" | "gid_t" | "socklen_t" | "useconds_t" => Form::Unsigned { size: 4 },
        "long" | "ssize_t" | "off_t" | "time_t" | "intptr_t" => Form::Signed { size: 8 },
        "unsigned long" | "size_t" | "nfds_t" => Form::Unsigned { size: 8 },
        "mode_t" => Form::Octal { size: 4 },
        _ => return None,
    })
}

/// What is written into a `char *` is not there yet, but what comes back is a string.
fn result(type_name: &str) -> Option<Form> {
    if type_name == "char *" { Some(Form::CString) } else { form(type_name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_function_or_a_set() {
        let sets: HashMap<&str, Form> = lines().filter_map(set).collect();
        for line in lines() {
            assert!(set(line).is_some() || function(line, &sets).is_some(), "{line}");
        }
        assert!(table().len() >= 200, "{}", table().len());
        assert_eq!(table().len() + sets.len(), lines().count(), "a name twice");
    }

    #[test]
    fn every_set_is_used() {
        for (name, _) in lines().filter_map(set) {
            assert!(TABLE.contains(&format!(":{name}")), "{name}");
        }
    }

    #[test]
    fn names_of_several_bits_come_before_those_of_one_of_them() {
        for (set, form) in lines().filter_map(set) {
            let Form::Flags { names, number, .. } = form else { continue };
            let bits: Vec<i64> = names.iter().map(|n| n.value).filter(|v| v & !number.cast_signed() != 0).collect();
            for (index, later) in bits.iter().enumerate() {
                assert!(bits[..index].iter().all(|earlier| earlier & later != *earlier), "{set}: {later:#o}");
            }
        }
    }

    #[test]
    fn libc_calls_one_function_by_many_names() {
        let libc = Path::new("/lib/x86_64-linux-gnu/libc.so.6");
        let first = |name: &str| signature(libc, [name]).map(|s| s.parameters.first().map(|p| p.name.clone()));
        for name in [
            "open",
            "open64",
            "__open",
            "__open64",
            "__libc_open64",
            "__open64_nocancel",
            "__open64_2",
            "open@GLIBC_2.2.5",
        ] {
            assert_eq!(first(name), Some(Some("path".to_owned())), "{name}");
        }
        for name in ["openat64", "__openat64_2", "__openat_2"] {
            assert_eq!(first(name), Some(Some("dirfd".to_owned())), "{name}");
        }
        for name in ["__strlen_avx2", "__strlen_evex", "__strlen_sse2", "_IO_puts", "__libc_malloc", "__printf_chk"] {
            assert!(signature(libc, [name]).is_some(), "{name}");
        }
        assert_eq!(first("opendirectory"), None);
        assert!(signature(Path::new("/usr/lib/libother.so"), ["open"]).is_none());
        assert!(signature(Path::new("/lib/ld-musl-x86_64.so.1"), ["open"]).is_some());
    }
}
