//! `ada-trace mark [SESSION] [TEXT]`: keeps the details around this moment.
//!
//! Invariant: without a recording nothing happens, and that is an error.

use std::{path::Path, process::ExitCode};

use ada_user::control::Request;
use anyhow::Result;

use super::{
    args::MarkArgs,
    control::{connect, exchange},
};

/// Marks, as `args` ask for.
pub(crate) fn run(args: &MarkArgs) -> Result<ExitCode> {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    let (session, text) = session_and_text(&words);
    exchange(&mut connect(session.map(Path::new))?, &Request::Mark { text: text.to_owned() }, args.format)
}

/// A single word is a session if it is a folder, or could only be the path of one.
fn session_and_text<'a>(words: &[&'a str]) -> (Option<&'a str>, &'a str) {
    let is_path = |word: &str| Path::new(word).is_dir() || word.contains('/') && !word.contains(char::is_whitespace);
    match words {
        [session, text, ..] => (Some(session), text),
        [session] if is_path(session) => (Some(session), ""),
        [text] => (None, text),
        [] => (None, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_a_session_or_a_text() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().to_str().unwrap();
        assert_eq!(session_and_text(&[]), (None, ""));
        assert_eq!(session_and_text(&[dir]), (Some(dir), ""));
        assert_eq!(session_and_text(&[dir, "text"]), (Some(dir), "text"));
        assert_eq!(session_and_text(&["text"]), (None, "text"));
        assert_eq!(session_and_text(&["ada_traces/gone"]), (Some("ada_traces/gone"), ""));
        assert_eq!(session_and_text(&["GET /index"]), (None, "GET /index"));
    }
}
