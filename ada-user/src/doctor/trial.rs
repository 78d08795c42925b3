//! The trial: a call of our own is recorded, through everything that a recording needs of the kernel.
//!
//! Invariant: only this process is probed, and only for the time of the trial.

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ada_format::wire::{Record, kind};

use super::{Finding, Version, read, seccomp};
use crate::backend::ebpf::{EbpfBackend, Route};
use crate::backend::{Backend, More, Running, Sink};
use crate::plan::{Function, FunctionId, Module, ModuleId, Plan, Returns};

const CHECK: &str = "trial";
/// How long the events may take; they come at once or never.
const PATIENCE: Duration = Duration::from_secs(1);
const RING_SIZE: u32 = 64 * 1024;

/// Records a call of [`probed`].
pub(super) fn run(version: Version) -> Finding {
    let filtered = seccomp::is_filtered(&read("/proc/self/status").unwrap_or_default());
    let returns = !(filtered && version.filters_return_probes());
    let Some(site) = Site::of(probed as *const () as usize as u64) else {
        return Finding::problem(CHECK, "ada-trace's own code cannot be found in /proc/self/maps").mend("mount /proc");
    };
    let started = Instant::now();
    match record(&site, returns) {
        Ok((counts, route)) if counts.calls > 0 && (counts.returns > 0 || !returns) => {
            let what = if returns { "a call and a return" } else { "a call" };
            let how = match route {
                Route::UprobeMulti => "uprobe_multi",
                Route::PerfEvent => "perf events",
            };
            Finding::ok(CHECK, format!("recorded {what} of its own by {how} in {} ms", started.elapsed().as_millis()))
        }
        Ok((counts, _)) => {
            let Counts { calls, returns } = counts;
            let found =
                format!("probes were attached, but of its own call {calls} calls and {returns} returns arrived");
            Finding::problem(CHECK, found).mend("run it in the initial pid namespace, and report this if it stays")
        }
        Err(error) => Finding::problem(CHECK, error.to_string()),
    }
}

/// What is called. Nothing else calls it.
#[inline(never)]
extern "C" fn probed(number: u64) -> u64 {
    black_box(number) + 1
}

/// What arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    calls: u32,
    returns: u32,
}

impl Sink for Counts {
    fn event(&mut self, record: &Record, _more: More<'_>) {
        match record.kind {
            kind::CALL => self.calls += 1,
            kind::RETURN => self.returns += 1,
            _ => {}
        }
    }
}

fn record(site: &Site, returns: bool) -> Result<(Counts, Route), crate::backend::AttachError> {
    let backend = EbpfBackend { ring_size: Some(RING_SIZE), ..EbpfBackend::default() };
    let mut running = backend.attach(&site.plan(returns), &[std::process::id()])?;
    black_box(probed(black_box(1)));
    let mut counts = Counts::default();
    let deadline = Instant::now() + PATIENCE;
    while (counts.calls == 0 || counts.returns < u32::from(returns)) && Instant::now() < deadline {
        running.wait(Duration::from_millis(5));
        running.drain(false, &mut counts);
    }
    drop(running.take_probes());
    running.drain(true, &mut counts);
    Ok((counts, running.route()))
}

/// Where a function of this program lies.
struct Site {
    file: PathBuf,
    offset: u64,
    address: u64,
}

impl Site {
    fn of(address: u64) -> Option<Self> {
        let maps = read("/proc/self/maps")?;
        let (offset, inode, path) = maps.lines().find_map(|line| locate(line, address))?;
        // The path may lead to a newer file by now; the link of a running program never does.
        let files = [PathBuf::from(path), PathBuf::from("/proc/self/exe")];
        let file = files.into_iter().find(|file| fs::metadata(file).is_ok_and(|metadata| metadata.ino() == inode))?;
        Some(Self { file, offset, address })
    }

    fn plan(&self, returns: bool) -> Plan {
        let (path, open_path) = (self.file.clone(), self.file.clone());
        let function = Function {
            id: FunctionId::new(ModuleId(0), 0),
            name: "trial".to_owned(),
            offset: self.offset,
            address: self.address,
            probe_offset: self.offset,
            returns: if returns { Returns::Probe } else { Returns::NotRecorded("a seccomp filter might object") },
            ..Function::default()
        };
        let module = Module { path, open_path, ..Module::default() };
        Plan { modules: vec![module], functions: vec![function], ..Plan::default() }
    }
}

/// File offset of an address, inode and path of the file, by the line of /proc/PID/maps that has it.
fn locate(line: &str, address: u64) -> Option<(u64, u64, &str)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = (hex(start)?, hex(end)?);
    let offset = hex(words.nth(1)?)?;
    let inode = words.nth(1)?.parse().ok()?;
    let path = line.get(line.find('/')?..)?;
    (start..end).contains(&address).then(|| (address - start + offset, inode, path))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn addresses_are_found_in_files() {
        let line = "55c316d2c000-55c316d31000 r-xp 00002000 fe:00 247030                     /usr/bin/a cat";
        assert_eq!(locate(line, 0x55c3_16d2_c010), Some((0x2010, 247_030, "/usr/bin/a cat")));
        assert_eq!(locate(line, 0x55c3_16d3_1000), None);
        assert_eq!(locate("7ffd5a1f9000-7ffd5a1fb000 r-xp 00000000 00:00 0    [vdso]", 0x7ffd_5a1f_9000), None);
        assert_eq!(locate("", 0), None);
    }

    #[test]
    fn our_own_code_is_found() {
        let site = Site::of(probed as *const () as usize as u64).unwrap();
        assert!(fs::metadata(&site.file).unwrap().len() > site.offset);
    }

    #[test]
    fn the_trial_works_or_says_why_not() {
        let finding = run(Version::running());
        if finding.verdict == Verdict::Ok {
            assert!(finding.found.starts_with("recorded a call"), "{finding:?}");
        } else {
            assert!(!rustix::process::geteuid().is_root() || finding.found.contains("refused"), "{finding:?}");
        }
    }
}
