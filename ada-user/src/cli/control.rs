//! `ada-trace control [SESSION] COMMAND`: steers a recording that is under way.
//!
//! Invariant: what the recorder refuses is told in its words, with exit status 2.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use ada_format::{manifest::SessionStatus, session};
use ada_user::{
    control::{Client, Reply, Request, Status, TriggerInfo},
    session::DEFAULT_ROOT,
};
use anyhow::{Result, anyhow, bail};

use super::{
    REFUSED,
    args::{ControlArgs, Format},
    summary::{bytes, count},
    table::{Column, Table},
};

const COMMANDS: [&str; 6] = ["mark", "add-trigger", "remove-trigger", "list-triggers", "status", "stop"];

/// Does what `args` ask for.
pub(crate) fn run(args: &ControlArgs) -> Result<ExitCode> {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    let (named, request) = parse(&words)?;
    exchange(&mut connect(named.map(Path::new))?, &request, args.format)
}

/// The session, if one is named, and what to ask its recorder.
fn parse<'a>(words: &[&'a str]) -> Result<(Option<&'a str>, Request)> {
    let (session, words) = match words {
        [first, ..] if COMMANDS.contains(first) => (None, words),
        [first, rest @ ..] => (Some(*first), rest),
        [] => (None, words),
    };
    let request = match words {
        ["mark"] => Request::Mark { text: String::new() },
        ["mark", text] => Request::Mark { text: (*text).to_owned() },
        ["add-trigger", trigger] => Request::AddTrigger { trigger: (*trigger).to_owned() },
        ["add-trigger"] => bail!("add-trigger wants a trigger, such as 'slow=libc:read>50ms' or signal"),
        ["remove-trigger", id] => Request::RemoveTrigger { id: trigger_id(id)? },
        ["remove-trigger"] => bail!("remove-trigger wants a trigger's number; list-triggers tells them"),
        ["list-triggers"] => Request::ListTriggers {},
        ["status"] => Request::Status {},
        ["stop"] => Request::Stop {},
        [] => bail!("what should the recorder do? Commands are {}", COMMANDS.join(", ")),
        [word] => bail!("'{word}' is no command; commands are {}", COMMANDS.join(", ")),
        [.., last] => bail!("'{last}' is one word too many; put words that belong together in quotes"),
    };
    Ok((session, request))
}

fn trigger_id(id: &str) -> Result<u32> {
    id.parse().map_err(|_| anyhow!("'{id}' is not a trigger's number; list-triggers tells them"))
}

/// Connects to the recorder of the session that is named, or of the newest that has one.
pub(super) fn connect(named: Option<&Path>) -> Result<Client> {
    if let Some(dir) = named {
        return Ok(Client::connect(dir)?);
    }
    let sessions = session::list(Path::new(DEFAULT_ROOT)).unwrap_or_default();
    let recording = sessions.iter().rev().filter(|entry| entry.status() == Some(SessionStatus::Recording));
    let client = recording.into_iter().find_map(|entry| Client::connect(&entry.path).ok());
    client.ok_or_else(|| {
        anyhow!("nothing is being recorded below {DEFAULT_ROOT}: start a recording, or name the folder of one")
    })
}

/// Asks, and prints the answer.
pub(super) fn exchange(client: &mut Client, request: &Request, format: Format) -> Result<ExitCode> {
    let reply = client.ask(request)?;
    let failed = matches!(reply, Reply::Error { .. });
    let text = match (&reply, format) {
        (_, Format::Jsonl) => format!("{}\n", serde_json::to_string(&reply)?),
        (Reply::Error { error }, Format::Text) => bail!("{}: {error}", client.dir().display()),
        (_, Format::Text) => text(&reply),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if failed { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Marked { at_ns } => format!("marked at @{at_ns}\n"),
        Reply::Added { id, functions } => format!("trigger {id} is armed{}\n", on_functions(*functions)),
        Reply::Removed { trigger } => format!("{trigger} is armed no longer\n"),
        Reply::Triggers { triggers } => list(triggers),
        Reply::Status(status) => status_text(status),
        Reply::Stopping => "the recording ends\n".to_owned(),
        Reply::Error { error } => format!("{error}\n"),
    }
}

fn on_functions(functions: u64) -> String {
    match functions {
        0 => String::new(),
        1 => " on 1 function".to_owned(),
        many => format!(" on {} functions", count(many)),
    }
}

const COLUMNS: [Column; 4] = [("N", true), ("FIRED", true), ("FUNCTIONS", true), ("TRIGGER", false)];

fn list(triggers: &[TriggerInfo]) -> String {
    if triggers.is_empty() {
        return "no trigger is armed; a mark keeps details even so\n".to_owned();
    }
    let mut table = Table::new(&COLUMNS);
    for trigger in triggers {
        let functions = if trigger.functions == 0 { "-".to_owned() } else { count(trigger.functions) };
        table.row([trigger.id.to_string(), count(trigger.fired), functions, trigger.trigger.clone()]);
    }
    table.to_string()
}

fn status_text(status: &Status) -> String {
    let window = if status.window_open { "one is open" } else { "none is open" };
    format!(
        "events   {}, {} lost\ndetails  {} written\nwindows  {}, {window}\nbuffer   {} details, {} of {}\n",
        count(status.events),
        count(status.lost),
        count(status.details),
        count(status.windows),
        count(status.buffered),
        bytes(status.buffered_bytes),
        bytes(status.buffer_bytes),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let mark = |text: &str| Request::Mark { text: text.to_owned() };
        let table = [
            (vec!["status"], (None, Request::Status {})),
            (vec!["dir", "stop"], (Some("dir"), Request::Stop {})),
            (vec!["./status", "status"], (Some("./status"), Request::Status {})),
            (vec!["mark", "here it is"], (None, mark("here it is"))),
            (vec!["dir", "mark"], (Some("dir"), mark(""))),
            (vec!["remove-trigger", "3"], (None, Request::RemoveTrigger { id: 3 })),
            (vec!["add-trigger", "exit!=0"], (None, Request::AddTrigger { trigger: "exit!=0".to_owned() })),
        ];
        for (words, expected) in table {
            assert_eq!(parse(&words).unwrap(), expected, "{words:?}");
        }
    }

    #[test]
    fn refusals() {
        let table = [
            (vec!["dir"], "Commands are mark"),
            (vec!["dir", "explode"], "'explode' is no command"),
            (vec!["remove-trigger", "x"], "'x' is not a trigger's number"),
            (vec!["add-trigger"], "wants a trigger"),
            (vec!["stop", "now"], "'now' is one word too many"),
        ];
        for (words, part) in table {
            let error = parse(&words).unwrap_err().to_string();
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }

    #[test]
    fn answers_as_text() {
        let trigger = TriggerInfo { id: 2, trigger: "slow=libc:read>5ms".into(), functions: 0, fired: 1200 };
        assert_eq!(
            list(&[trigger]),
            "N  FIRED  FUNCTIONS  TRIGGER\n2  1 200          -  slow=libc:read>5ms\n".replace("1 200", &count(1200))
        );
        assert_eq!(text(&Reply::Added { id: 3, functions: 1 }), "trigger 3 is armed on 1 function\n");
        let status = Status { events: 7, window_open: true, windows: 1, ..Status::default() };
        assert!(text(&Reply::Status(status)).contains("windows  1, one is open"));
    }
}
