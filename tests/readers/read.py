"""What a foreign reader finds in an export, as one JSON object: `read.py FORMAT PATH`.

Reading is done by protoc, babeltrace2 and Python's own modules; here is only what adds up:
rows [tid, function, caller or "", calls, nanoseconds], events lost, signals.
"""

import ast
import collections
import csv
import json
import re
import subprocess
import sys
import xml.etree.ElementTree
from decimal import Decimal
from pathlib import Path

PROTOS = Path(__file__).parent.parent / "proto"
STACK = 1 << 22


class Rows:
    def __init__(self):
        self.rows = collections.defaultdict(lambda: [0, 0])
        self.facts = collections.Counter()

    def add(self, tid, name, caller, ns, calls=1):
        row = self.rows[tid, name, caller]
        row[0] += calls
        row[1] += int(ns)

    def print(self):
        rows = [[*key, *sums] for key, sums in sorted(self.rows.items())]
        json.dump({"rows": rows, **self.facts}, sys.stdout)


class Stacks:
    """Begins and ends by stack."""

    def __init__(self, rows):
        self.rows, self.open, self.latest = rows, collections.defaultdict(list), {}

    def begin(self, stack, name, time):
        self.order(stack, time)
        self.open[stack].append((name, time))

    def end(self, stack, tid, time, name=None):
        self.order(stack, time)
        begun, start = self.open[stack].pop()
        assert name in (None, begun), (name, begun)
        caller = self.open[stack][-1][0] if self.open[stack] else ""
        self.rows.add(tid, begun, caller, time - start)

    def order(self, stack, time):
        assert self.latest.get(stack, 0) <= time, (stack, time)
        self.latest[stack] = time

    def finish(self):
        assert not any(self.open.values()), self.open


def decode(message, proto, data):
    command = ["protoc", f"--proto_path={PROTOS}", f"--decode={message}", str(PROTOS / proto)]
    text = subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode()
    assert not re.search(r"^\s*\d+: ", text, re.M), "fields that the description does not have"
    return parse(iter(text.splitlines()))


def parse(lines):
    """protoc's text as dictionaries of lists."""
    found = collections.defaultdict(list)
    for line in lines:
        line = line.strip()
        if line == "}":
            break
        if line.endswith(" {"):
            found[line[:-2]].append(parse(lines))
        else:
            key, value = line.split(": ", 1)
            found[key].append(ast.literal_eval("b" + value).decode() if value.startswith('"') else value)
    return found


def one(message, key, otherwise=None):
    values = message.get(key) or [otherwise]
    return values[0]


def perfetto(path, rows):
    stacks, names, tids, tracks, counters = Stacks(rows), {}, {}, {}, collections.Counter()
    for packet in decode("perfetto.Trace", "perfetto.proto", path.read_bytes())["packet"]:
        sequence = one(packet, "trusted_packet_sequence_id")
        track = one(packet, "track_descriptor")
        if track:
            thread = one(track, "thread")
            rows.facts["processes"] += "process" in track
            tids[one(track, "uuid")] = int(one(thread, "tid")) if thread else tids.get(one(track, "parent_uuid"))
        defaults = one(packet, "trace_packet_defaults")
        if defaults:
            tracks[sequence] = one(one(defaults, "track_event_defaults"), "track_uuid")
        for interned in packet.get("interned_data", []):
            for name in interned.get("event_names", []):
                names[sequence, one(name, "iid")] = one(name, "name")
        event = one(packet, "track_event")
        if not event:
            continue
        kind, time = one(event, "type"), int(one(packet, "timestamp"))
        tid = tids[tracks[sequence]]
        if kind == "TYPE_SLICE_BEGIN":
            stacks.begin(sequence, names[sequence, one(event, "name_iid")], time)
        elif kind == "TYPE_SLICE_END":
            stacks.end(sequence, tid, time)
        elif kind == "TYPE_COUNTER":
            counters[one(event, "track_uuid")] = int(one(event, "counter_value"))
        elif kind == "TYPE_INSTANT":
            rows.facts["signals"] += one(event, "name").startswith("signal")
            rows.facts["unwound"] += one(event, "name").startswith("unwound")
    stacks.finish()
    rows.facts["lost"] = sum(counters.values())


def chrome(path, rows):
    lost = {}
    for event in json.loads(path.read_text(), parse_float=Decimal)["traceEvents"]:
        if event["ph"] == "X":
            rows.add(event["tid"] % STACK, event["name"], "", event["dur"] * 1000)
        elif event["ph"] == "C":
            lost[event["id"]] = event["args"]["events"]
        elif event["ph"] == "i":
            rows.facts["signals"] += event["name"].startswith("signal")
    rows.facts["lost"] = sum(lost.values())


def speedscope(path, rows):
    file = json.loads(path.read_text())
    if len(sys.argv) > 3:
        import jsonschema

        jsonschema.validate(file, json.loads(Path(sys.argv[3]).read_text()))
    frames, stacks = file["shared"]["frames"], Stacks(rows)
    for number, profile in enumerate(file["profiles"]):
        tid = int(re.search(r"/(\d+)\)$", profile["name"])[1])
        for event in profile["events"]:
            name = frames[event["frame"]]["name"]
            if event["type"] == "O":
                stacks.begin(number, name, event["at"])
            else:
                stacks.end(number, tid, event["at"], name)
            assert event["at"] <= profile["endValue"]
    stacks.finish()


def spans(lines, rows):
    """Spans with numbers and their callers'; callers that are left out are nobody."""
    lines = list(lines)
    names = {(line["thread"], line["number"]): line["function"] for line in lines}
    for line in lines:
        caller = "" if line["parent"] in (None, "") else names.get((line["thread"], line["parent"]), "")
        rows.add(int(line["tid"]), line["function"], caller, line["duration_ns"])
        assert int(line["end_ns"]) - int(line["start_ns"]) == int(line["duration_ns"])


def csv_file(path, rows):
    with path.open(newline="") as file:
        spans(csv.DictReader(file, strict=True), rows)


def jsonl(path, rows):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    spans([line for line in lines if line["kind"] == "span"], rows)
    rows.facts["signals"] = sum(line["kind"] == "signal" for line in lines)
    rows.facts["lost"] = lines[-1]["events_lost"]
    rows.facts["unwound"] = sum(line.get("end") == "unwound" for line in lines)
    assert [line["kind"] for line in lines].count("accounting") == 1 and lines[-1]["kind"] == "accounting"


def ctf(path, rows):
    command = ["babeltrace2", "--clock-cycles", "--fields=all", str(path)]
    stacks = collections.defaultdict(list)
    for line in subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines():
        event = re.search(r" (call|end|signal|lost|unmatched_return|unknown): ", line)[1]
        field = lambda key: re.search(rf'\b{key} = (\d+|\( "((?:[^"\\]|\\.)*)")', line)
        plain = lambda key: re.sub(r"\\(.)", r"\1", field(key)[2])
        if event == "call":
            stacks[field("thread")[1], field("stack")[1]].append((field("number")[1], plain("function")))
        elif event == "end":
            stack = stacks[field("thread")[1], field("stack")[1]]
            assert stack.pop() == (field("number")[1], plain("function")), line
            caller = stack[-1][1] if stack else ""
            rows.add(int(field("tid")[1]), plain("function"), caller, field("duration_ns")[1])
            rows.facts["unwound"] += field("end")[2] == "unwound"
        elif event == "signal":
            rows.facts["signals"] += 1
        elif event == "lost":
            rows.facts["lost"] += int(field("count")[1])
    assert not any(stacks.values()), stacks


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at


def atf4(path, rows):
    data, at, stream = (path / "events.bin").read_bytes(), 0, bytearray()
    while at < len(data):
        length, begin = varint(data, at)
        stream += b"\x0a" + data[at : begin + length]
        at = begin + length
    events = decode("atf4.Stream", "atf4.proto", bytes(stream))["event"]
    assert [int(one(event, "event_id")) for event in events] == list(range(1, len(events) + 1))
    assert "trace_start" in events[0] and "trace_end" in events[-1]
    latest = 0
    for event in events:
        stamp, tid = one(event, "timestamp"), int(one(event, "thread_id"))
        time = int(one(stamp, "seconds", 0)) * 10**9 + int(one(stamp, "nanos", 0))
        assert latest <= time
        latest = time
        for kind, sums in [("function_call", (1, 0)), ("function_return", (0, 1))]:
            if kind in event:
                rows.add(tid, one(one(event, kind), "symbol"), "", sums[1], sums[0])
        rows.facts["signals"] += "signal_delivery" in event
    description = json.loads((path / "trace.json").read_text())
    assert description["eventCount"] == len(events)


def folded(path, rows):
    for line in path.read_text().splitlines():
        stack, weight = line.rsplit(" ", 1)
        names = ["", *stack.split(";")]
        rows.add(0, names[-1], names[-2], weight, 0)


def flamegraph(path, rows):
    svg = "{http://www.w3.org/2000/svg}"
    for box in xml.etree.ElementTree.parse(path).getroot().iter(svg + "g"):
        name, weight = re.fullmatch(r"(.*): (\d+) (?:ns|calls), [\d.]+ %", box.find(svg + "title").text).groups()
        rows.add(0, name, "", weight, 1)


def firefox(path, rows):
    profile = json.loads(path.read_text(), parse_float=Decimal)
    for thread in profile["threads"]:
        samples, stacks, texts = thread["samples"], thread["stackTable"], thread["stringArray"]
        columns = [samples[column] for column in ("stack", "timeDeltas", "weight")]
        assert {len(column) for column in columns} == {samples["length"]}
        on_stack = []
        for prefix, frame in zip(stacks["prefix"], stacks["frame"], strict=True):
            function = thread["frameTable"]["func"][frame]
            name = texts[thread["funcTable"]["name"][function]].split(" [")[0]
            on_stack.append((on_stack[prefix] if prefix is not None else frozenset()) | {name})
        for stack, _, weight in zip(*columns, strict=True):
            for name in on_stack[stack] if stack is not None else ():
                rows.add(int(thread["tid"]), name, "", weight * 10**6, 0)


READERS = {
    "perfetto": perfetto,
    "chrome": chrome,
    "speedscope": speedscope,
    "csv": csv_file,
    "jsonl": jsonl,
    "ctf": ctf,
    "atf4": atf4,
    "folded": folded,
    "flamegraph": flamegraph,
    "firefox": firefox,
}

found = Rows()
READERS[sys.argv[1]](Path(sys.argv[2]), found)
found.print()
