//! Debian packages: installing what is missing, without questions and without starting services.
//!
//! Invariant: the package lists are updated at most once per run, and a service policy of the machine's own stays.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Once;

use anyhow::{Context, Result, bail};

use crate::cmd;

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs packages; an error in one sentence where this is not Debian or we are not root.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if cmd::find("apt-get").is_none() {
        bail!("install what Debian calls {list}");
    }
    if !cmd::is_root() {
        bail!("as root: apt-get install {list}");
    }
    update();
    let _no_services = NoServices::begin();
    let options =
        ["-qq", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120", "--no-install-recommends", "-y", "install"];
    let mut command = cmd::command("apt-get", &options);
    command.args(packages).env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
    cmd::run(&mut command).with_context(|| format!("as root: apt-get update && apt-get install {list}"))
}

/// Whether a package is installed.
pub(crate) fn is_installed(package: &str) -> bool {
    let query = cmd::output(&mut cmd::command("dpkg-query", &["-W", "-f", "${Status}", package]));
    query.is_ok_and(|status| status.ends_with(" installed"))
}

/// A failure is only told: the lists that are there may do.
fn update() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let options = ["-qq", "-o", "DPkg::Lock::Timeout=120", "update"];
        if let Err(error) = cmd::run(&mut cmd::command("apt-get", &options)) {
            eprintln!("xtask: {error:#}; going on with the package lists that are there");
        }
    });
}

/// While it lives, package scripts start no service. A machine that has a policy keeps its own.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> NoServices {
        let ours = !Path::new(POLICY).exists() && Self::write().is_ok();
        NoServices { ours }
    }

    fn write() -> std::io::Result<()> {
        fs::write(POLICY, "#!/bin/sh\n# Of cargo xtask, while it installs packages.\nexit 101\n")?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
