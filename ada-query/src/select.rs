//! Which part of a session a question is about.
//!
//! Invariant: what is left out is left out as if it had never been recorded: its time belongs to the call around it.

use std::collections::HashSet;

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;

use crate::QueryError;
use crate::functions::{About, FunctionIndex, Functions};
use crate::trace::{Thread, Trace};

/// A glob over whole names, or `/a regular expression/` over parts of them.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Glob(GlobMatcher),
    Regex(Regex),
}

impl Pattern {
    /// Compiles what was typed.
    ///
    /// # Errors
    /// [`QueryError::Pattern`].
    pub fn new(text: &str) -> Result<Self, QueryError> {
        let wrong = |why: String| QueryError::Pattern { text: text.to_owned(), why };
        let inner = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let matcher = match inner {
            Some(inner) => Matcher::Regex(Regex::new(inner).map_err(|error| wrong(last_line(&error.to_string())))?),
            None => {
                let glob = GlobBuilder::new(text).backslash_escape(true).build();
                Matcher::Glob(glob.map_err(|error| wrong(error.kind().to_string()))?.compile_matcher())
            }
        };
        Ok(Self { text: text.to_owned(), matcher })
    }

    /// Whether it means a function: by its symbol, its readable name, or that without parameters.
    #[must_use]
    pub fn matches(&self, function: &About<'_>) -> bool {
        let readable = function.demangled;
        let bare = readable.and_then(|name| name.split_once('(')).map(|(bare, _)| bare).filter(|bare| !bare.is_empty());
        // A name may be a pattern by chance: `operator[]`, `f(int*)`.
        [function.name, readable, bare].into_iter().flatten().any(|name| name == self.text || self.matches_name(name))
    }

    fn matches_name(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Glob(glob) => glob.is_match(name),
            Matcher::Regex(regex) => regex.is_match(name),
        }
    }

    /// As it was typed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// Which part of a session a question is about; the default is all of it.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// From this time on, in nanoseconds of the clock: calls that run then are in, with the rest of their time.
    pub from_ns: Option<u64>,
    /// Up to but without this time.
    pub until_ns: Option<u64>,
    /// Only threads of which one of these is an ordinal; all if there are none.
    pub threads: Vec<u32>,
    /// Only threads of these processes; all if there are none.
    pub pids: Vec<u32>,
    /// Only these functions and what they call; all if there are none.
    pub include: Vec<Pattern>,
    /// Without these functions and what they call.
    pub exclude: Vec<Pattern>,
    /// Without calls that are known to be shorter, in nanoseconds.
    pub min_duration_ns: u64,
}

impl Selection {
    /// Checks that what it names exists.
    ///
    /// # Errors
    /// [`QueryError::NoThread`], [`QueryError::NoProcess`], or [`QueryError::NoFunction`] with the name as typed.
    pub fn check(&self, trace: &Trace) -> Result<(), QueryError> {
        let exists =
            |id: u32| trace.thread_of(id).is_some() || trace.session().broken().iter().any(|broken| broken.id == id);
        if let Some(&id) = self.threads.iter().find(|id| !exists(**id)) {
            return Err(QueryError::NoThread { id });
        }
        if let Some(&pid) = self.pids.iter().find(|pid| !trace.threads().iter().any(|thread| thread.pid == Some(**pid)))
        {
            return Err(QueryError::NoProcess { pid });
        }
        for pattern in self.include.iter().chain(&self.exclude) {
            matching(pattern, trace.functions())?;
        }
        Ok(())
    }

    /// Whether a thread is in it.
    #[must_use]
    pub fn wants(&self, thread: &Thread) -> bool {
        let by_id = self.threads.is_empty() || thread.parts.iter().any(|part| self.threads.contains(&part.id));
        by_id && (self.pids.is_empty() || thread.pid.is_some_and(|pid| self.pids.contains(&pid)))
    }

    /// The threads that are in it.
    pub fn threads<'a>(&'a self, trace: &'a Trace) -> impl Iterator<Item = &'a Thread> {
        trace.threads().iter().filter(|thread| self.wants(thread))
    }

    pub(crate) fn compile(&self, functions: &Functions) -> Compiled {
        let mut flags = vec![0; functions.known().len()];
        for (patterns, flag) in [(&self.include, INCLUDE), (&self.exclude, EXCLUDE)] {
            for (place, flags) in flags.iter_mut().enumerate().filter(|_| !patterns.is_empty()) {
                let about = functions.about(u32::try_from(place).unwrap_or(u32::MAX));
                if patterns.iter().any(|pattern| pattern.matches(&about)) {
                    *flags |= flag;
                }
            }
        }
        Compiled {
            flags,
            root: if self.include.is_empty() { INCLUDE } else { 0 },
            from_ns: self.from_ns.unwrap_or(0),
            until_ns: self.until_ns.unwrap_or(u64::MAX),
            has_end: self.until_ns.is_some(),
            min_duration_ns: self.min_duration_ns,
        }
    }
}

/// The functions that a pattern means.
///
/// # Errors
/// [`QueryError::NoFunction`] if there are none.
pub fn matching(pattern: &Pattern, functions: &Functions) -> Result<HashSet<FunctionIndex>, QueryError> {
    let all = (0..functions.known().len()).filter_map(|place| u32::try_from(place).ok());
    let found: HashSet<_> = all.filter(|index| pattern.matches(&functions.about(*index))).collect();
    if found.is_empty() { Err(QueryError::NoFunction { text: pattern.text().to_owned() }) } else { Ok(found) }
}

pub(crate) const INCLUDE: u8 = 1;
pub(crate) const EXCLUDE: u8 = 2;

/// A selection in the form in which every call is held against it.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    /// [`INCLUDE`] and [`EXCLUDE`] by function.
    pub(crate) flags: Vec<u8>,
    /// What holds outside of all calls.
    pub(crate) root: u8,
    pub(crate) from_ns: u64,
    pub(crate) until_ns: u64,
    pub(crate) has_end: bool,
    pub(crate) min_duration_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_whole_readable_or_bare() {
        let about = |name, demangled| About { id: 1, name: Some(name), demangled, module: None };
        let table = [
            ("malloc", about("malloc", None), true),
            ("mal", about("malloc", None), false),
            ("/mal/", about("malloc", None), true),
            ("ns::f", about("_ZN2ns1fEPi", Some("ns::f(int*)")), true),
            ("ns::f(int*)", about("_ZN2ns1fEPi", Some("ns::f(int*)")), true),
            ("_ZN2ns1fEPi", about("_ZN2ns1fEPi", Some("ns::f(int*)")), true),
            ("ns::*", about("_ZN2ns1fEPi", Some("ns::f(int*)")), true),
            ("f", about("_ZN2ns1fEPi", Some("ns::f(int*)")), false),
        ];
        for (pattern, about, expected) in table {
            assert_eq!(Pattern::new(pattern).unwrap().matches(&about), expected, "{pattern}");
        }
        for wrong in ["a[", "/a(/"] {
            assert!(!Pattern::new(wrong).unwrap_err().to_string().contains('\n'));
        }
    }
}
