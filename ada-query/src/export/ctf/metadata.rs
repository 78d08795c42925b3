//! The description of a CTF trace, in the language of CTF 1.8.
//!
//! Invariant: the types here are those that `packet.rs` and the writer lay down, in their order, without padding.

use std::fmt::Write;

use crate::export::names::{printable, wall_offset_ns};
use crate::span::End;
use crate::trace::Trace;

/// Names of [`End`]s, by the number that an event has for them.
const ENDS: [End; 8] = [
    End::Return,
    End::Unwound,
    End::Missed,
    End::Lost,
    End::Exit,
    End::Killed { signal: 0 },
    End::Recording,
    End::Range,
];
/// The function of marks that name none.
pub(super) const NO_FUNCTION: u32 = u32::MAX;

/// The number of what ended a call.
pub(super) fn number_of(end: End) -> u8 {
    let place = ENDS.iter().position(|other| other.name() == end.name());
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(0)
}

/// The number of the trace, from its session's name.
pub(super) fn uuid(trace: &Trace) -> [u8; 16] {
    let session = &trace.manifest().session;
    let text = format!("{} {} {}", session.id, session.started_at, trace.manifest().host.hostname);
    let hash = text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    hash.to_le_bytes()
}

/// The whole description; `functions` is the greatest function number, and one more.
pub(super) fn text(trace: &Trace, functions: u32) -> String {
    let mut text = String::from("/* CTF 1.8 */\n");
    for (name, size) in [("uint8_t", 8), ("uint32_t", 32), ("uint64_t", 64)] {
        let _ = writeln!(text, "typealias integer {{ size = {size}; align = 8; signed = false; }} := {name};");
    }
    text += "typealias integer { size = 32; align = 8; signed = true; } := int32_t;\n";
    let id = id(trace);
    let _ = writeln!(text, "trace {{ major = 1; minor = 8; uuid = \"{id}\"; byte_order = le;");
    text += "  packet.header := struct { uint32_t magic; uint8_t uuid[16]; uint32_t stream_id; };\n};\n";
    environment(&mut text, trace);
    clock(&mut text, trace);
    enums(&mut text, trace, functions);
    text += STREAM;
    text
}

const STREAM: &str = "\
typealias integer { size = 64; align = 8; signed = false; map = clock.boottime.value; } := time_t;
stream { id = 0;
  packet.context := struct { time_t timestamp_begin; time_t timestamp_end; uint64_t content_size; uint64_t packet_size;
    uint64_t events_discarded; uint32_t pid; uint32_t tid; uint32_t thread; string thread_name; };
  event.header := struct { uint8_t id; time_t timestamp; };
};
event { name = \"call\"; id = 0; stream_id = 0; fields := struct {
  function_t function; uint32_t stack; uint32_t depth; uint64_t number; string args; }; };
event { name = \"end\"; id = 1; stream_id = 0; fields := struct {
  function_t function; uint32_t stack; uint32_t depth; uint64_t number; uint64_t duration_ns; uint64_t self_ns;
  end_t end; string returned; }; };
event { name = \"signal\"; id = 2; stream_id = 0; fields := struct {
  function_t function; uint32_t number; int32_t code; uint64_t fault_address; }; };
event { name = \"lost\"; id = 3; stream_id = 0; fields := struct { uint64_t count; uint64_t until_ns; }; };
event { name = \"unmatched_return\"; id = 4; stream_id = 0; fields := struct { function_t function; }; };
event { name = \"unknown\"; id = 5; stream_id = 0; fields := struct { function_t function; }; };
";

fn id(trace: &Trace) -> String {
    let hex: String = uuid(trace).iter().map(|byte| format!("{byte:02x}")).collect();
    let ends = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    let parts: Vec<&str> = ends.iter().map(|(from, to)| hex.get(*from..*to).unwrap_or_default()).collect();
    parts.join("-")
}

fn environment(text: &mut String, trace: &Trace) {
    let manifest = trace.manifest();
    text.push_str("env {\n");
    let pairs = [
        ("hostname", &manifest.host.hostname),
        ("kernel_release", &manifest.host.kernel),
        ("architecture", &manifest.arch),
        ("tracer_name", &manifest.tool.name),
        ("tracer_version", &manifest.tool.version),
        ("session_id", &manifest.session.id),
    ];
    for (key, value) in pairs {
        let _ = writeln!(text, "  {key} = {};", quote(value));
    }
    text.push_str("};\n");
}

fn clock(text: &mut String, trace: &Trace) {
    let offset = wall_offset_ns(trace);
    let (seconds, rest) = (offset.div_euclid(1_000_000_000), offset.rem_euclid(1_000_000_000));
    let _ = writeln!(
        text,
        "clock {{ name = \"boottime\"; description = \"CLOCK_BOOTTIME\"; freq = 1000000000; precision = 1; \
         offset_s = {seconds}; offset = {rest}; absolute = false; }};"
    );
}

fn enums(text: &mut String, trace: &Trace, functions: u32) {
    text.push_str("typealias enum : uint32_t {\n");
    for function in 0..functions {
        let name = trace.functions().about(function).to_string();
        let _ = writeln!(text, "  {} = {function},", quote(&name));
    }
    let _ = writeln!(text, "  \"(none)\" = {NO_FUNCTION}\n}} := function_t;");
    let ends = ENDS.iter().enumerate().map(|(number, end)| format!("\"{}\" = {number}", end.name()));
    let _ = writeln!(text, "typealias enum : uint8_t {{ {} }} := end_t;", ends.collect::<Vec<_>>().join(", "));
}

fn quote(text: &str) -> String {
    format!("\"{}\"", printable(text).replace('\\', "\\\\").replace('"', "\\\""))
}
