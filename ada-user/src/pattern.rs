//! Patterns over names: globs and regular expressions.
//!
//! Invariant: a glob matches a whole name, a regular expression any part of one that its anchors allow; two patterns are
//! equal if they are written alike.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Everything,
    Glob(GlobMatcher),
    Regex(Regex),
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// `/` without another at the end.
    #[error("a regular expression ends in a slash, as in libc:/^mem/; an absolute path stands before the colon")]
    OpenRegex,
    /// No regular expression.
    #[error(
        "'{text}' is no regular expression ({why}): write it as the regex crate does, such as /^SSL_(read|write)$/"
    )]
    Regex {
        /// As typed.
        text: String,
        /// What its parser said.
        why: String,
    },
    /// No glob.
    #[error("'{text}' is no pattern ({why}): *, ?, [a-z] and {{a,b}} are special, and a backslash makes them plain")]
    Glob {
        /// As typed.
        text: String,
        /// What its parser said.
        why: String,
    },
}

impl Pattern {
    /// `*`, `?`, `[a-z]`, `{a,b}`; a backslash makes the next character plain.
    ///
    /// # Errors
    /// [`PatternError::Glob`].
    pub fn glob(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self::everything());
        }
        let glob = GlobBuilder::new(text).backslash_escape(true).build();
        let glob = glob.map_err(|error| PatternError::Glob { text: text.to_owned(), why: error.kind().to_string() })?;
        Ok(Self { text: text.to_owned(), matcher: Matcher::Glob(glob.compile_matcher()) })
    }

    /// A regular expression, without its slashes.
    ///
    /// # Errors
    /// [`PatternError::Regex`].
    pub fn regex(text: &str) -> Result<Self, PatternError> {
        let wrong = |error: regex::Error| PatternError::Regex { text: text.to_owned(), why: last_line(&error) };
        let regex = Regex::new(text).map_err(wrong)?;
        Ok(Self { text: format!("/{text}/"), matcher: Matcher::Regex(regex) })
    }

    /// `*`.
    #[must_use]
    pub fn everything() -> Self {
        Self { text: "*".to_owned(), matcher: Matcher::Everything }
    }

    /// Whether it matches whatever the name is.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        matches!(self.matcher, Matcher::Everything)
    }

    /// Whether it is a regular expression.
    #[must_use]
    pub fn is_regex(&self) -> bool {
        matches!(self.matcher, Matcher::Regex(_))
    }

    /// Whether a name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Everything => true,
            Matcher::Glob(glob) => glob.is_match(name),
            Matcher::Regex(regex) => regex.is_match(name),
        }
    }

    /// As it was typed, a regular expression between slashes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The reason at the end of a drawing of several lines.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        let table = [
            ("mal*", "malloc", true),
            ("mal*", "xmalloc", false),
            ("*", "anything at all", true),
            ("ns::*", "ns::a::b(int)", true),
            ("m?lloc", "malloc", true),
            ("m?lloc", "mlloc", false),
            ("{malloc,free}*", "free", true),
            ("mem[cm]*", "memmove", true),
            ("mem[cm]*", "memset", false),
            (r"operator\[\]*", "operator[](int)", true),
            ("*/libc.so*", "/usr/lib/libc.so.6", true),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(Pattern::glob(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn regular_expressions_match_parts() {
        let pattern = Pattern::regex("^SSL_(read|write)$").unwrap();
        assert!(pattern.matches("SSL_read"));
        assert!(!pattern.matches("SSL_read_ex"));
        assert!(Pattern::regex("alloc").unwrap().matches("reallocarray"));
        assert_eq!(pattern.to_string(), "/^SSL_(read|write)$/");
    }

    #[test]
    fn what_is_no_pattern_says_why_on_one_line() {
        for error in [Pattern::glob("a[*").unwrap_err(), Pattern::regex("a(").unwrap_err()] {
            assert!(!error.to_string().contains('\n'), "{error}");
            assert!(error.to_string().contains('\''), "{error}");
        }
    }
}
