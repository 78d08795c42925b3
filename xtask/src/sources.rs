//! What the kernel object is built from, and the file of hashes beside it.
//!
//! ```text
//! # rustc 1.97.0-nightly (…)          toolchain, for information
//! <sha256>  ada-ebpf/src/main.rs      one line per source, as sha256sum writes it
//! ```
//! Invariant: the hashes are of the sources as they were when the object was built, paths relative to the workspace.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::cmd;

/// The built object, relative to the workspace.
pub(crate) const OBJECT: &str = "ada-ebpf/bytecode/ada.bpf.o";
/// Its sources' hashes, relative to the workspace.
pub(crate) const HASHES: &str = "ada-ebpf/bytecode/ada.bpf.o.sources";

/// The sources of the kernel object with their hashes, one line each, sorted.
pub(crate) fn hashes() -> Result<Vec<String>> {
    let root = cmd::root();
    let mut files = rust_files(&root.join("ada-ebpf/src"))?;
    files.extend(rust_files(&root.join("ada-format/src/wire"))?);
    files.extend(["ada-ebpf/Cargo.toml", "ada-ebpf/Cargo.lock"].map(|file| root.join(file)));
    files.sort();
    files.iter().map(|file| hash_line(&root, file)).collect()
}

/// The text of the hash file.
pub(crate) fn hash_file(versions: &[String], hashes: &[String]) -> String {
    let mut text = String::from("# ada.bpf.o was built from these by `cargo xtask build-ebpf`, with\n");
    for version in versions {
        let _ = writeln!(text, "# {version}");
    }
    for line in hashes {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// All `.rs` files below a folder.
pub(crate) fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

fn hash_line(root: &Path, file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.strip_prefix(root).unwrap_or(file);
    Ok(format!("{:x}  {}", Sha256::digest(bytes), name.display()))
}
