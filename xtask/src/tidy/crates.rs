//! Which crate may depend on which: the table of the architecture, against what cargo says.

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::cmd;

/// A crate of the workspace and those of the workspace that it may depend on.
const ALLOWED: [(&str, &[&str]); 8] = [
    ("ada-format", &[]),
    ("ada-ebpf", &["ada-format"]),
    ("ada-frida", &["ada-format"]),
    ("ada-query", &["ada-format"]),
    ("ada-python", &["ada-query"]),
    ("ada-user", &["ada-format", "ada-frida", "ada-query"]),
    ("xtask", &[]),
    ("tests", &["ada-format", "ada-frida", "ada-query", "ada-user"]),
];

/// Crates from elsewhere that only some crates may depend on.
const OUTSIDE: [(&str, &[&str]); 3] =
    [("aya", &["ada-ebpf", "ada-user"]), ("clap", &["ada-user"]), ("frida-gum", &["ada-frida"])];

/// Checks the workspace's crates and the kernel side.
pub(super) fn check() -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in packages(&["Cargo.toml", "ada-ebpf/Cargo.toml"])? {
        for dependency in &package.dependencies {
            findings.extend(
                wrong(&package.name, dependency)
                    .map(|what| Finding::error(&format!("{}/Cargo.toml", package.name), 1, what)),
            );
        }
    }
    Ok(findings)
}

/// A package and the names of what it depends on, for tests and builds too.
struct Package {
    name: String,
    dependencies: Vec<String>,
}

fn packages(manifests: &[&str]) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for manifest in manifests {
        let args = ["metadata", "--format-version", "1", "--no-deps", "--manifest-path", manifest];
        let metadata: Value = serde_json::from_str(&cmd::output(&mut cmd::cargo(&args))?)?;
        let listed = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
        packages.extend(listed.iter().map(package));
    }
    Ok(packages)
}

fn package(value: &Value) -> Package {
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let dependencies = value["dependencies"].as_array().map_or_else(Vec::new, |list| list.iter().map(name).collect());
    Package { name: name(value), dependencies }
}

/// What is wrong with a dependency, if anything is.
fn wrong(package: &str, dependency: &str) -> Option<String> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package) else {
        return Some(
            "is a crate that the table in xtask/src/tidy/crates.rs lacks, add what it may depend on".to_owned(),
        );
    };
    let ours = ALLOWED.iter().any(|(name, _)| *name == dependency);
    if ours && !allowed.contains(&dependency) {
        return Some(format!("depends on {dependency}, which ARCHITECTURE.md excludes: move the code that needs it"));
    }
    let family =
        |name: &str| dependency == name || dependency.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    let (name, may) = OUTSIDE.iter().find(|(name, _)| family(name))?;
    let what = format!("depends on {dependency}; {name} belongs to {} alone", may.join(" and "));
    (!may.contains(&package)).then_some(what)
}

#[cfg(test)]
mod tests {
    use super::wrong;

    #[test]
    fn the_table_decides() {
        assert_eq!(wrong("ada-user", "ada-format"), None);
        assert_eq!(wrong("ada-user", "aya-obj"), None);
        assert!(wrong("ada-format", "ada-user").is_some());
        assert!(wrong("ada-query", "ada-user").is_some());
        assert!(wrong("ada-format", "clap").is_some());
        assert!(wrong("ada-new", "libc").is_some());
    }
}
