//! Containers by podman and runc, from images made here: nothing is pulled.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::fixture::copied;
use crate::scratch::Scratch;

/// What works on hosts with hybrid cgroups and without CAP_SYS_RESOURCE.
const LIMITS: [&str; 5] = ["--network=none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];

/// An image that holds a few static programs; removed when dropped.
#[derive(Debug)]
pub struct Image(String);

impl Image {
    /// Imports one with `programs` in its root folder.
    ///
    /// # Panics
    /// If tar or podman do not work.
    #[must_use]
    pub fn of(programs: &[&Path], scratch: &Scratch) -> Self {
        let root = scratch.join("rootfs");
        std::fs::create_dir(&root).expect("a folder");
        for program in programs {
            drop(copied(program, &root));
        }
        let archive = scratch.join("rootfs.tar");
        done(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."));
        let name = format!("localhost/ada-e2e:{}", unique(scratch));
        done(Command::new("podman").args(["import", "-q"]).arg(&archive).arg(&name));
        Self(name)
    }

    /// `podman run` of a container called `name` from this image, with `options`; add the command to it.
    #[must_use]
    pub fn run(&self, name: &Container, options: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.args(["--runtime", "runc", "run", "--rm", "-i", "--name", &name.0]);
        command.args(LIMITS).args(options).arg(&self.0);
        command
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        quiet(["rmi", "--force", &self.0]);
    }
}

/// A container's name; what runs under it is removed when dropped.
#[derive(Debug)]
pub struct Container(String);

impl Container {
    /// A name that no other test uses.
    #[must_use]
    pub fn named(role: &str, scratch: &Scratch) -> Self {
        Self(format!("ada-e2e-{role}-{}", unique(scratch)))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Process id of its first process, as the host sees it.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let mut podman = Command::new("podman");
        let output = podman.args(["inspect", "-f", "{{.State.Pid}}", &self.0]).output().expect("podman");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a process id")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        quiet(["rm", "--force", "--time", "0", &self.0]);
    }
}

/// The random part of the scratch folder's name.
fn unique(scratch: &Scratch) -> String {
    let name = scratch.path().file_name().expect("a folder").to_string_lossy().to_lowercase();
    name.trim_start_matches("ada-e2e-").replace('.', "")
}

fn quiet<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) {
    drop(Command::new("podman").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status());
}

fn done(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
