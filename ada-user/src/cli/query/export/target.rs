//! Where an export goes: written under another name beside it, and renamed when it is whole.
//!
//! Invariant: what is replaced is a file, or a folder that holds nothing but an export; devices and pipes are written
//! directly.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ada_query::export::Format;
use anyhow::{Context, Result, bail};

use crate::cli::query::unfinished::Unfinished;

/// A file or folder that is being written.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    format: Format,
    /// Where it is written until then; the same as `path` for what cannot be renamed.
    partial: PathBuf,
    file: Option<File>,
    /// None of what cannot be removed.
    unfinished: Option<Unfinished>,
}

impl Target {
    /// Creates what is to be written.
    ///
    /// # Errors
    /// If something is there and not to be replaced, or nothing can be created there.
    pub(super) fn new(path: &Path, format: Format, force: bool) -> Result<Self> {
        let there = fs::symlink_metadata(path).ok();
        if there.is_some() && !force {
            bail!("{} exists: --force replaces it", path.display());
        }
        let followed = fs::metadata(path).ok();
        if let Some(there) = &followed {
            check_replaceable(path, format, there)?;
        }
        let is_special = followed.is_some_and(|there| !there.is_file() && !there.is_dir());
        let partial = if is_special { path.to_owned() } else { beside(path)? };
        let unfinished = if is_special { None } else { Some(Unfinished::at(&partial, path)?) };
        let failed = || format!("cannot write {}", path.display());
        let file = match format.is_folder() {
            true => fs::create_dir(&partial).map(|()| None),
            false if is_special => File::options().write(true).open(&partial).map(Some),
            false => File::create(&partial).map(Some),
        };
        let file = file.with_context(failed)?;
        Ok(Self { path: path.to_owned(), format, partial, file, unfinished })
    }

    /// The file, if it is one.
    pub(super) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// The file or folder to write.
    pub(super) fn place(&self) -> &Path {
        &self.partial
    }

    /// It is whole: gives it its name.
    pub(super) fn keep(mut self) -> Result<()> {
        match self.unfinished.take() {
            Some(unfinished) => unfinished.end(|| self.rename()),
            None => Ok(()),
        }
    }

    fn rename(&self) -> Result<()> {
        if self.format.is_folder() && self.path.is_dir() {
            fs::remove_dir_all(&self.path).with_context(|| format!("cannot replace {}", self.path.display()))?;
        }
        let renamed = fs::rename(&self.partial, &self.path);
        if renamed.is_err() {
            self.remove();
        }
        renamed.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// It is not whole and will not be.
    pub(super) fn remove(&self) {
        if self.partial != self.path {
            // Whatever hinders this has hindered the export, too, and that is told.
            let _ = if self.format.is_folder() {
                fs::remove_dir_all(&self.partial)
            } else {
                fs::remove_file(&self.partial)
            };
        }
    }
}

fn check_replaceable(path: &Path, format: Format, there: &fs::Metadata) -> Result<()> {
    let name = path.display();
    match (there.is_dir(), format.is_folder()) {
        (true, false) => bail!("{name} is a folder, {} is a file: name one in it with -o", format.name()),
        (false, true) => bail!("{name} is no folder, {} is one: name another with -o", format.name()),
        (true, true) => {}
        (false, false) => return Ok(()),
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {name}"))?;
    let other = entries
        .flatten()
        .map(|entry| entry.file_name())
        .find(|entry| !entry.to_str().is_some_and(|entry| is_ours(entry, format)));
    match other {
        Some(other) => {
            bail!("{name} holds {}, which is no part of an export: name another folder with -o", other.display())
        }
        None => Ok(()),
    }
}

/// Whether an export of a format writes such a file.
fn is_ours(name: &str, format: Format) -> bool {
    match format {
        Format::Ctf => {
            let number = name.strip_prefix("thread_").map(str::as_bytes);
            name == "metadata"
                || number.is_some_and(|number| number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'_'))
        }
        _ => matches!(name, "events.bin" | "trace.json"),
    }
}

/// A name in the same folder that nobody else uses.
fn beside(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else { bail!("{} names no file: give one with -o", path.display()) };
    let mut partial = std::ffi::OsString::from(".");
    partial.push(name);
    partial.push(format!(".{}.partial", std::process::id()));
    Ok(path.with_file_name(partial))
}
