//! `ada-trace doctor`: what this machine and a target allow, what that means, and the mend.
//!
//! Invariant: exit status 0 says that recording will work.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use ada_user::doctor::{self, Finding, Verdict};
use anyhow::Result;
use serde_json::json;

use super::args::{DoctorArgs, Format};

/// Examines what `args` ask for.
pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let mut findings = doctor::examine_machine();
    if let Some(pid) = args.pid {
        findings.extend(doctor::examine_target(pid));
    }
    let text = match args.format {
        Format::Text => text(&findings),
        Format::Jsonl => jsonl(&findings),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if doctor::will_record(&findings) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { check, verdict, found, mend } in findings {
        let _ = writeln!(text, "{:<7}  {check:<width$}  {found}", verdict_word(*verdict));
        if let Some(mend) = mend {
            let _ = writeln!(text, "{:<7}  {:<width$}  -> {mend}", "", "");
        }
    }
    let _ = writeln!(text, "\n{}", conclusion(findings));
    text
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "OK",
        other => other.word(),
    }
}

fn conclusion(findings: &[Finding]) -> String {
    if doctor::will_record(findings) {
        return "Recording works here.".to_owned();
    }
    let problems = findings.iter().filter(|finding| finding.verdict == Verdict::Problem);
    let checks: Vec<&str> = problems.map(|finding| finding.check).collect();
    format!("Recording will not work: see {}.", checks.join(", "))
}

fn jsonl(findings: &[Finding]) -> String {
    let object = |finding: &Finding| {
        let Finding { check, verdict, found, mend } = finding;
        json!({ "check": check, "verdict": verdict.word(), "found": found, "mend": mend })
    };
    findings.iter().map(object).fold(String::new(), |text, object| text + &object.to_string() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &'static str, verdict: Verdict, found: &str, mend: Option<&str>) -> Finding {
        Finding { check, verdict, found: found.to_owned(), mend: mend.map(str::to_owned) }
    }

    #[test]
    fn text_for_people() {
        let mut findings = vec![
            finding("kernel", Verdict::Ok, "fine", None),
            finding("seccomp", Verdict::Note, "a filter", Some("lift it")),
        ];
        assert_eq!(
            text(&findings),
            "\
OK       kernel   fine
note     seccomp  a filter
                  -> lift it

Recording works here.
"
        );
        findings.push(finding("trial", Verdict::Problem, "refused", None));
        assert!(text(&findings).ends_with("problem  trial    refused\n\nRecording will not work: see trial.\n"));
    }

    #[test]
    fn jsonl_for_programs() {
        let findings = [finding("kernel", Verdict::Ok, "\"fine\"", None), finding("x", Verdict::Note, "y", Some("z"))];
        assert_eq!(
            jsonl(&findings),
            "{\"check\":\"kernel\",\"found\":\"\\\"fine\\\"\",\"mend\":null,\"verdict\":\"ok\"}\n\
             {\"check\":\"x\",\"found\":\"y\",\"mend\":\"z\",\"verdict\":\"note\"}\n"
        );
    }
}
