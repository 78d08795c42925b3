//! The kernel object: built from the sources that lie beside it, and free of this machine's paths.

use std::fs;

use super::Finding;
use crate::{build_ebpf, cmd, sources};

/// Checks the object and the file of its sources' hashes.
pub(super) fn check() -> Vec<Finding> {
    let mut findings: Vec<Finding> = stale().into_iter().collect();
    let Ok(object) = fs::read(cmd::root().join(sources::OBJECT)) else {
        findings.push(Finding::error(sources::OBJECT, 1, "is missing, run cargo xtask build-ebpf"));
        return findings;
    };
    findings.extend(
        build_ebpf::forbidden(&object)
            .map(|path| Finding::error(sources::OBJECT, 1, format!("contains {path}, run cargo xtask build-ebpf"))),
    );
    findings
}

fn stale() -> Option<Finding> {
    let mend = "run cargo xtask build-ebpf";
    let recorded = fs::read_to_string(cmd::root().join(sources::HASHES));
    let (Ok(recorded), Ok(hashes)) = (recorded, sources::hashes()) else {
        return Some(Finding::error(sources::HASHES, 1, format!("or a source of the object is missing, {mend}")));
    };
    let lines = || recorded.lines().filter(|line| !line.starts_with('#'));
    if lines().eq(hashes.iter().map(String::as_str)) {
        return None;
    }
    let changed = hashes.iter().find(|hash| !lines().any(|line| line == hash.as_str()));
    let name = changed.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("the list of sources");
    Some(Finding::error(sources::HASHES, 1, format!("{name} changed since the object was built, {mend}")))
}
