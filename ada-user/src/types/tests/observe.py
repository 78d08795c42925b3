# For gdb: runs a program and writes what a probe would see of the functions in PLAN (a file with JSON) to OUT.
import json
import os

import gdb

plan = json.load(open(os.environ["ADA_PLAN"]))
out = open(os.environ["ADA_OUT"], "w")
CALL = ["rdi", "rsi", "rdx", "rcx", "r8", "r9", "rax", "r10"]
MASK = (1 << 64) - 1
MOST = 64
gdb.execute("set confirm off")
gdb.execute("set breakpoint pending on")
gdb.execute("starti", to_string=True)
inferior = gdb.selected_inferior()
for _ in range(2):
    # The program's base is known once its loader has run; without one it is 0.
    maps = open(f"/proc/{inferior.pid}/maps").read().splitlines()
    program = os.path.realpath(inferior.progspace.filename)
base = min(int(line.split("-")[0], 16) for line in maps if line.endswith(program))


def register(name):
    return int(gdb.parse_and_eval("$" + name)) & MASK


def memory(address, size):
    try:
        return bytes(inferior.read_memory(address, size))
    except gdb.MemoryError:
        return None


def word(address):
    return int.from_bytes(memory(address, 8), "little")


def value(number, regs, sp):
    return regs[number] if number < 8 else word(sp + 8 + 8 * (number - 8))


def piece(slot, wanted, regs, sp):
    kind, base, length_base, pointer_offset, length_offset, size = wanted
    if kind == 0:
        return None
    address = value(base, regs, sp)
    if kind == 1:
        data = memory(address, 4096) or memory(address, 4096 - address % 4096)
        if data is None:
            return None
        whole = data.split(b"\0")[0]
        return [slot, address, min(len(whole), MOST + 1), whole[:MOST].hex()]
    if kind == 3:
        size = value(length_base, regs, sp)
    if kind == 4:
        size = word(address + length_offset)
        address = word(address + pointer_offset)
    data = memory(address, min(size, MOST)) if size else b""
    return None if data is None else [slot, address, size, data.hex()]


def write(index, moment, regs, pieces, sp, stack):
    found = [piece(slot, wanted, regs, sp) for slot, wanted in enumerate(pieces)]
    blocks = [block for block in found if block]
    json.dump({"function": index, "moment": moment, "regs": regs, "stack": stack, "memory": blocks}, out)
    out.write("\n")


class Return(gdb.Breakpoint):
    def __init__(self, address, index):
        super().__init__(f"*{address}", internal=True, temporary=True)
        self.index = index

    def stop(self):
        regs = [register("rax"), register("rdx"), 0, 0, 0, 0, 0, 0]
        write(self.index, "return", regs, plan[self.index]["ret"], 0, "")
        return False


class Call(gdb.Breakpoint):
    def __init__(self, index):
        super().__init__(f"*{base + plan[index]['address']}", internal=True)
        self.index = index

    def stop(self):
        sp = register("rsp")
        regs = [register(name) for name in CALL]
        write(self.index, "call", regs, plan[self.index]["call"], sp, memory(sp, 128).hex())
        Return(word(sp), self.index)
        return False


for each in range(len(plan)):
    Call(each)
gdb.execute("continue")
out.close()
gdb.execute("quit")
