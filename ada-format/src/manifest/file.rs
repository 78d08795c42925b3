//! Reading and writing manifest.json and functions.json.
//!
//! Invariant: a file is replaced by rename only, after its new content has been synced; and functions.json is in
//! place before the manifest that names it.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{FORMAT_VERSION, Function, Manifest};

/// Name of the manifest in a session.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Name of the file for many functions, beside the manifest.
pub const FUNCTIONS_FILE: &str = "functions.json";
/// The most functions that are kept in the manifest itself.
pub const INLINE_FUNCTIONS: usize = 10_000;

/// Why a manifest could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not JSON, or not of the manifest's shape.
    #[error("{} is not a manifest: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// It was written by a later version of the format, which means other things by the same words.
    #[error("{} is of format version {found}, and this version reads up to 2: read it with a newer ada-trace", path.display())]
    Newer {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// `functions_file` is not the name of a file beside the manifest.
    #[error("{}: functions_file is {found:?}, expected the name of a file beside it", path.display())]
    FunctionsFile {
        /// The manifest.
        path: PathBuf,
        /// What it says.
        found: String,
    },
}

/// A manifest as it is written: many functions are named by their file.
#[derive(Serialize)]
struct OnDisk<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    #[serde(skip_serializing_if = "Option::is_none")]
    functions_file: Option<&'static str>,
}

impl Manifest {
    /// Replaces the manifest in `dir`, in one step: a reader sees the old one or the new one. Many functions go to
    /// [`FUNCTIONS_FILE`], which is written only if they have changed.
    ///
    /// # Errors
    /// [`ManifestError::Write`] that names the file; the old manifest is then still in place.
    pub fn write_atomic(&self, dir: &Path) -> Result<(), ManifestError> {
        let many = too_many(&self.functions);
        if many && !holds(&dir.join(FUNCTIONS_FILE), &self.functions) {
            replace(dir, FUNCTIONS_FILE, |out| Ok(serde_json::to_writer(out, &self.functions)?))?;
        }
        let on_disk = OnDisk { manifest: self, functions_file: many.then_some(FUNCTIONS_FILE) };
        replace(dir, MANIFEST_FILE, |out| Ok(serde_json::to_writer_pretty(out, &on_disk)?))
    }

    /// Reads the manifest in `dir`, and its functions from wherever they are.
    ///
    /// # Errors
    /// [`ManifestError`] that names the file.
    pub fn read(dir: &Path) -> Result<Self, ManifestError> {
        let path = dir.join(MANIFEST_FILE);
        let manifest = read_json(&path);
        let version = match &manifest {
            Ok(Self { format_version, .. }) => Some(format_version.clone()),
            // A newer one may have another shape.
            Err(_) => read_json(&path).ok().map(|Version { format_version }| format_version),
        };
        if let Some(found) = version.filter(|version| is_newer(version)) {
            return Err(ManifestError::Newer { path, found });
        }
        let mut manifest: Self = manifest?;
        if let Some(name) = &manifest.functions_file {
            if !is_plain_name(name) {
                return Err(ManifestError::FunctionsFile { path, found: name.clone() });
            }
            let functions: Vec<Function> = read_json(&dir.join(name))?;
            manifest.functions.extend(functions);
        }
        Ok(manifest)
    }
}

/// All that is looked at of a manifest that cannot be read.
#[derive(Deserialize)]
struct Version {
    format_version: String,
}

/// Whether the number before the point is greater than ours: a greater one behind it only adds keys.
fn is_newer(version: &str) -> bool {
    let major = |version: &str| version.split('.').next().and_then(|major| major.parse::<u64>().ok());
    major(version) > major(FORMAT_VERSION)
}

/// Whether functions belong into a file of their own.
pub(super) fn too_many(functions: &[Function]) -> bool {
    functions.len() > INLINE_FUNCTIONS
}

/// Reads a JSON file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ManifestError> {
    let bytes = fs::read(path).map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| ManifestError::Json { path: path.to_owned(), source })
}

fn is_plain_name(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|file| file == name) && !name.contains('\0')
}

/// Writes `dir`/`name` beside itself, syncs it, and puts it in place.
fn replace(
    dir: &Path,
    name: &str,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), ManifestError> {
    let temporary = dir.join(format!(".{name}.tmp"));
    let attempt = || {
        // One that is left over, or that somebody else put there, is not written through.
        let _ = fs::remove_file(&temporary);
        let mut out = BufWriter::new(File::create_new(&temporary)?);
        write(&mut out)?;
        out.write_all(b"\n")?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&temporary, dir.join(name))
    };
    attempt().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        ManifestError::Write { path: dir.join(name), source }
    })
}

/// Whether the file holds exactly these functions; compared as they are encoded, without a copy of either.
fn holds(path: &Path, functions: &[Function]) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    let mut same = Same(BufReader::new(file));
    let encoded = serde_json::to_writer(BufWriter::new(&mut same), functions).is_ok();
    let mut rest = Vec::new();
    encoded && same.0.take(2).read_to_end(&mut rest).is_ok() && rest == b"\n"
}

/// A writer that fails as soon as what is written is not what it reads.
struct Same<R>(R);

impl<R: Read> Write for Same<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut there = vec![0; bytes.len()];
        self.0.read_exact(&mut there)?;
        if there == bytes { Ok(bytes.len()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
