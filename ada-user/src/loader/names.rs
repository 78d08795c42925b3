//! File names of libraries, and the stems that people call them by.
//!
//! Invariant: pure text.

/// How well a library's file name fits a name that was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameMatch {
    /// The same file name: `libc.so.6`.
    Exact,
    /// The same stem: `libc` for `libc.so.6` and for `libc-2.31.so`.
    Stem,
}

/// Compares a library's file name with a name that was typed.
#[must_use]
pub fn match_name(file_name: &str, typed: &str) -> Option<NameMatch> {
    if file_name == typed {
        return Some(NameMatch::Exact);
    }
    stems(file_name).contains(&typed).then_some(NameMatch::Stem)
}

/// The names that a file goes by without its version: up to `.so`; that without a trailing `-2.31`; and for a Python
/// extension (`_json.cpython-311-x86_64-linux-gnu.so`) its module's name. None for anything but a library.
#[must_use]
pub fn stems(file_name: &str) -> Vec<&str> {
    let Some(stem) = strip_so(file_name) else {
        return Vec::new();
    };
    let mut stems = vec![stem];
    if let Some((name, version)) = stem.rsplit_once('-')
        && version.starts_with(|c: char| c.is_ascii_digit())
        && version.chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        stems.push(name);
    }
    if let Some((name, tag)) = stem.split_once('.')
        && (tag.starts_with("cpython-") || tag.starts_with("abi3"))
    {
        stems.push(name);
    }
    stems
}

/// `libfoo` of `libfoo.so` and `libfoo.so.1.2`.
fn strip_so(file_name: &str) -> Option<&str> {
    let mut ends = file_name.match_indices(".so").filter(|(at, so)| {
        let rest = &file_name[at + so.len()..];
        rest.is_empty() || rest.starts_with('.')
    });
    ends.next().map(|(at, _)| &file_name[..at]).filter(|stem| !stem.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_match() {
        let table = [
            ("libc.so.6", "libc", Some(NameMatch::Stem)),
            ("libc.so.6", "libc.so.6", Some(NameMatch::Exact)),
            ("libc.so.6", "libc.so", None),
            ("libc-2.31.so", "libc", Some(NameMatch::Stem)),
            ("libc-2.31.so", "libc-2.31", Some(NameMatch::Stem)),
            ("libcrypt.so.1", "libc", None),
            ("libstdc++.so.6.0.30", "libstdc++", Some(NameMatch::Stem)),
            ("libpython3.11.so.1.0", "libpython3.11", Some(NameMatch::Stem)),
            ("libpython3.11.so.1.0", "libpython3", None),
            ("libfoo-bar.so", "libfoo", None),
            ("libfoo.some.so", "libfoo.some", Some(NameMatch::Stem)),
            ("_json.cpython-311-x86_64-linux-gnu.so", "_json", Some(NameMatch::Stem)),
            ("_rust.abi3.so", "_rust", Some(NameMatch::Stem)),
            ("python3.11", "python3.11", Some(NameMatch::Exact)),
            ("python3.11", "python3", None),
            ("ld-linux-x86-64.so.2", "ld-linux-x86-64", Some(NameMatch::Stem)),
            (".so", "", None),
        ];
        for (file, typed, expected) in table {
            assert_eq!(match_name(file, typed), expected, "{file} {typed}");
        }
    }
}
