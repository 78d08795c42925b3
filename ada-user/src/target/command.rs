//! A command that does not run yet: which ELF program it will be.
//!
//! Invariant: scripts are followed as execve(2) follows them, and through `env`, which they use to search PATH.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::TargetError;
use crate::elf::{Elf, ElfError};
use crate::loader::{Environment, Loader};

/// How much of a script the kernel looks at (`BINPRM_BUF_SIZE`).
const SCRIPT_HEAD: usize = 256;
/// How many interpreters the kernel follows (fs/exec.c, `exec_binprm`).
const MAX_DEPTH: usize = 4;
/// The search path where the environment has none (execvp(3)).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Opens a program and follows what it needs.
pub(super) fn load(program: &Path, environment: &Environment) -> Result<Loader, TargetError> {
    Ok(Loader::load(&Elf::open(program)?, environment))
}

/// The ELF program that running `command` in this environment comes to: searched in PATH if it has no slash; for a
/// script its interpreter; for `#!/usr/bin/env NAME` the program NAME.
///
/// # Errors
/// [`TargetError::NoSuchCommand`], [`TargetError::ScriptLoop`], [`ElfError::Read`].
pub fn program_of(command: &Path, environment: &Environment) -> Result<PathBuf, TargetError> {
    let command = find(command, environment)?;
    let mut program = command.clone();
    for _ in 0..=MAX_DEPTH {
        let Some(line) = interpreter_line(&program)? else {
            return Ok(program);
        };
        program = match through_env(&line) {
            Some(name) => find(Path::new(name), environment)?,
            None => line.interpreter,
        };
    }
    Err(TargetError::ScriptLoop { path: command })
}

fn find(command: &Path, environment: &Environment) -> Result<PathBuf, TargetError> {
    if command.as_os_str().as_bytes().contains(&b'/') {
        return Ok(command.to_owned());
    }
    let path = environment.get("PATH").map_or(OsStr::new(DEFAULT_PATH), |path| path.as_os_str());
    let candidates = std::env::split_paths(path).map(|folder| Path::new(".").join(folder).join(command));
    let mut runnable = candidates.filter(|path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    });
    runnable.next().ok_or_else(|| TargetError::NoSuchCommand { command: command.display().to_string() })
}

/// The first line of a script.
struct Line {
    interpreter: PathBuf,
    /// All that follows, as the one argument that the kernel makes of it.
    argument: Vec<u8>,
}

fn interpreter_line(program: &Path) -> Result<Option<Line>, TargetError> {
    let read_error = |source| ElfError::Read { path: program.to_owned(), source };
    let mut head = [0_u8; SCRIPT_HEAD];
    let length = File::open(program).and_then(|file| file.read_at(&mut head, 0)).map_err(read_error)?;
    let Some(line) = head[..length].strip_prefix(b"#!") else {
        return Ok(None);
    };
    let line = line.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or_default().trim_ascii();
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
    let (interpreter, argument) = line.split_at(end);
    let interpreter = PathBuf::from(OsStr::from_bytes(interpreter));
    Ok(Some(Line { interpreter, argument: argument.trim_ascii().to_vec() }))
}

/// The program that `env NAME`, `env -S NAME ARGS` or `env VAR=value NAME` goes on to run.
fn through_env(line: &Line) -> Option<&OsStr> {
    if line.interpreter.file_name()? != "env" {
        return None;
    }
    let mut words = line.argument.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let name = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='))?;
    Some(OsStr::from_bytes(name))
}
