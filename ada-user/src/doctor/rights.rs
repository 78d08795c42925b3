//! What this process may do: capabilities, and the switches that make the kernel stricter.
//!
//! Invariant: a switch that does not matter to whoever has the capabilities is told as such, not as a problem.

use super::{Finding, field};

/// Number and name of the capabilities that count (include/uapi/linux/capability.h).
const CAPABILITIES: [(u32, &str); 4] =
    [(39, "CAP_BPF"), (38, "CAP_PERFMON"), (19, "CAP_SYS_PTRACE"), (21, "CAP_SYS_ADMIN")];

const SUDO: &str = "run it with sudo; in a container add CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE";

/// The effective capabilities, by /proc/self/status.
pub(super) fn capabilities(status: &str) -> Finding {
    let check = "capabilities";
    let Some(effective) = field(status, "CapEff").and_then(|text| u64::from_str_radix(text, 16).ok()) else {
        return Finding::note(check, "which of CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE are held cannot be told");
    };
    let has = |name: &str| CAPABILITIES.iter().any(|(bit, each)| *each == name && effective >> bit & 1 == 1);
    let named = |wanted: bool| CAPABILITIES.map(|(_, name)| name).into_iter().filter(move |name| has(name) == wanted);
    let missing = named(false).collect::<Vec<_>>().join(", ");
    let admin = has("CAP_SYS_ADMIN");
    let enough = admin || has("CAP_BPF") && has("CAP_PERFMON");
    if !enough {
        let found = format!("missing: {missing}; without them the kernel refuses eBPF programs and probes");
        return Finding::problem(check, found).mend(SUDO);
    }
    if !has("CAP_SYS_PTRACE") {
        let found = format!("missing: {missing}; only processes of your own user can be looked at");
        return Finding::note(check, found).mend("add CAP_SYS_PTRACE to record those of others");
    }
    if !admin {
        let found = "CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE are held; CAP_SYS_ADMIN is not: files that were deleted \
            or replaced while a target runs cannot be reached";
        return Finding::ok(check, found);
    }
    Finding::ok(check, format!("{} are held", named(true).collect::<Vec<_>>().join(", ")))
}

/// kernel.unprivileged_bpf_disabled.
pub(super) fn unprivileged_bpf(value: Option<&str>) -> Finding {
    let meaning = match value.map(str::trim) {
        Some("0") => "everyone may load some eBPF programs",
        Some("1" | "2") => "eBPF needs CAP_BPF",
        _ => "the kernel does not say who may use eBPF",
    };
    let value = value.map_or("absent", str::trim);
    Finding::ok(
        "unprivileged_bpf",
        format!("unprivileged_bpf_disabled is {value}: {meaning}; ada-trace asks for it anyway"),
    )
}

/// kernel.perf_event_paranoid.
pub(super) fn perf_event_paranoid(value: Option<&str>) -> Finding {
    let value = value.map_or("absent", str::trim);
    let found = format!("perf_event_paranoid is {value}: it does not matter to whoever has CAP_PERFMON");
    Finding::ok("perf_event_paranoid", found)
}

/// Whether the kernel tells this process what others map.
pub(super) fn mapping_events(hears: bool) -> Finding {
    let check = "mapping events";
    if hears {
        return Finding::ok(check, "the kernel tells where programs map their code");
    }
    let found = "the kernel does not tell where programs map their code (perf events are refused): crashes of processes \
        that live for a moment may have no place";
    Finding::note(check, found).mend("run it as root outside of a container, or let the container use perf_event_open")
}

/// /sys/kernel/security/lockdown, such as `none [integrity] confidentiality`.
pub(super) fn lockdown(text: Option<&str>) -> Finding {
    let check = "lockdown";
    let chosen = text.and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0));
    match chosen {
        Some("confidentiality") => {
            let found = "the kernel is locked down for confidentiality: eBPF may not read, and perf events are refused";
            Finding::problem(check, found).mend("boot with lockdown=integrity, which is enough for Secure Boot")
        }
        Some(mode) => Finding::ok(check, format!("lockdown is '{mode}', which allows probes")),
        None => Finding::ok(check, "lockdown cannot be read (no securityfs, or a kernel without it); the trial tells"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn capabilities_by_their_bits() {
        let finding = |bits: u64| capabilities(&format!("Name:\tx\nCapEff:\t{bits:016x}\n"));
        let bit = |number: u32| 1_u64 << number;
        let all = finding(0x1ff_ffff_ffff);
        assert_eq!(all.verdict, Verdict::Ok);
        assert_eq!(all.found, "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_SYS_ADMIN are held");
        let none = finding(0);
        assert_eq!(none.verdict, Verdict::Problem);
        assert!(
            none.found.starts_with("missing: CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_SYS_ADMIN;"),
            "{}",
            none.found
        );
        assert!(none.mend.is_some_and(|mend| mend.contains("sudo")));
        let perfmon = finding(bit(39) | bit(19));
        assert_eq!(perfmon.verdict, Verdict::Problem);
        assert!(perfmon.found.starts_with("missing: CAP_PERFMON, CAP_SYS_ADMIN;"), "{}", perfmon.found);
        assert_eq!(finding(bit(39) | bit(38)).verdict, Verdict::Note);
        assert_eq!(finding(bit(39) | bit(38) | bit(19)).verdict, Verdict::Ok);
        assert_eq!(finding(bit(21)).verdict, Verdict::Note);
        assert_eq!(capabilities("").verdict, Verdict::Note);
        assert_eq!(capabilities("CapEff:\tnonsense").verdict, Verdict::Note);
    }

    #[test]
    fn lockdown_modes() {
        assert_eq!(lockdown(Some("[none] integrity confidentiality\n")).verdict, Verdict::Ok);
        assert_eq!(lockdown(Some("none [integrity] confidentiality\n")).verdict, Verdict::Ok);
        assert_eq!(lockdown(Some("none integrity [confidentiality]\n")).verdict, Verdict::Problem);
        assert_eq!(lockdown(Some("")).verdict, Verdict::Ok);
        assert_eq!(lockdown(None).verdict, Verdict::Ok);
    }

    #[test]
    fn without_perf_events_crashes_may_have_no_place() {
        assert_eq!(mapping_events(true).verdict, Verdict::Ok);
        assert!(mapping_events(false).verdict == Verdict::Note && mapping_events(false).found.contains("no place"));
    }

    #[test]
    fn switches_are_explained() {
        assert!(unprivileged_bpf(Some("2\n")).found.starts_with("unprivileged_bpf_disabled is 2: eBPF needs CAP_BPF"));
        assert!(unprivileged_bpf(None).found.contains("is absent"));
        assert!(perf_event_paranoid(Some("4\n")).found.starts_with("perf_event_paranoid is 4:"));
    }
}
