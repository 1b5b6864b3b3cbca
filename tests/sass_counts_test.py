"""tests/sass_counts.py and the judgement of tests/spill_gate.py, on cubins made here."""

import struct

import sass_counts
import spill_gate


def cubin(kernels):
    """An ELF file of 64 bits with a section .text.<name> of 16-byte words with these opcodes for each kernel."""
    names = [""] + [".text." + name for name in kernels] + [".nv.info", ".shstrtab"]
    strings = b"\0".join(name.encode() for name in names) + b"\0"
    codes = [b"".join(struct.pack("<QQ", 0xABCD000 | opcode, 2**63) for opcode in opcodes) for opcodes in kernels.values()]
    bodies = [b""] + codes + [b"\xf0\x09" * 64, strings]
    sections, at = [], 64
    for name, body in zip(names, bodies):
        sections.append(struct.pack("<IIQQQQIIQQ", strings.index(name.encode() + b"\0"), 1, 0, 0, at, len(body), 0, 0, 16, 0))
        at += len(body)
    header = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 190, 1, 0, 0, at, 0, 64, 0, 0, 64, len(names),
                                                      len(names) - 1)
    return header + b"".join(bodies) + b"".join(sections)


def fatbin(entries):
    body = b"".join(struct.pack("<HHIQIIHHIIQQQ4x", kind, 0x101, 64, len(image), 0, 0, 0, 0, architecture, 0, 0, 0, 0) + image
                    for kind, architecture, image in entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_instructions_of_every_kernel_are_counted():
    assert sass_counts.kernels(cubin({"first": [0x9F0, 0x9F0, 0xDF0, 0x308, 0x7F0], "second": [0x308] * 3})) == {
        "first": {"wgmma_shared": 2, "wgmma_registers": 1, "mufu": 1},
        "second": {"wgmma_shared": 0, "wgmma_registers": 0, "mufu": 3}}


def test_an_object_holds_cubins_of_several_architectures(tmp_path):
    path = tmp_path / "kernels.o"
    path.write_bytes(b"anything" + fatbin([(1, 80, b"ptx text"), (2, 80, cubin({"k": [0x308]})),
                                           (2, 90, cubin({"k": [0x9F0, 0x308]}))]) + b"more")
    assert sass_counts.of_file(path) == {(80, "k"): {"wgmma_shared": 0, "wgmma_registers": 0, "mufu": 1},
                                         (90, "k"): {"wgmma_shared": 1, "wgmma_registers": 0, "mufu": 1}}


LOG = """ptxas info    : Compiling entry function 'k' for 'sm_90a'
ptxas info    : Function properties for k
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers
"""


def complaints(monkeypatch, opcodes, log=LOG, **baseline):
    monkeypatch.setattr(spill_gate, "nvcc_version", lambda nvcc: "13.0")
    counts = {"a.cu": {(90, "k"): sass_counts.kernels(cubin({"k": opcodes}))["k"]}}
    rows = spill_gate.rows_of({"a.cu": log}, counts, "nvcc")
    row = {"nvcc": "13.0", "source": "a.cu", "architecture": "sm_90a", "kernel": "k", "registers": "168", "spill_bytes": "0",
           "stack_bytes": "0", "wgmma_shared": "1", "wgmma_registers": "1", "mufu": "2"}
    return spill_gate.judge(rows, [row | baseline]) + spill_gate.losses({"a.cu": log})


def test_a_kernel_as_in_the_baseline_passes(monkeypatch):
    assert complaints(monkeypatch, [0x9F0, 0xDF0, 0x308, 0x308]) == []
    assert complaints(monkeypatch, [0x308], wgmma_shared="", wgmma_registers="", mufu="") == []


def test_more_or_fewer_instructions_are_complained_of(monkeypatch):
    assert complaints(monkeypatch, [0x9F0, 0x9F0, 0xDF0, 0x308, 0x308]) == ["sm_90a k: wgmma_shared 2, baseline 1"]
    assert complaints(monkeypatch, [0x9F0, 0xDF0, 0xDF0, 0x308, 0x308]) == ["sm_90a k: wgmma_registers 2, baseline 1"]
    assert complaints(monkeypatch, [0x9F0, 0xDF0, 0x308]) == ["sm_90a k: mufu 1, baseline 2"]
    assert len(complaints(monkeypatch, [0x308, 0x308])) == 3  # no wgmma is left
    assert complaints(monkeypatch, [0x9F0, 0xDF0, 0x308], nvcc="12.8") == []  # another compiler


def test_spills_registers_and_notes_are_complained_of(monkeypatch):
    code = [0x9F0, 0xDF0, 0x308, 0x308]
    assert complaints(monkeypatch, code, LOG.replace("0 bytes spill stores", "8 bytes spill stores")) == [
        "sm_90a k: spill_bytes 8"]
    assert complaints(monkeypatch, code, LOG.replace("168", "170")) == ["sm_90a k: registers 170, baseline 168"]
    for note in ("(C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to a call in function 'k'",
                 "(C7508) setmaxnreg ignored; unable to determine register count at entry"):
        assert complaints(monkeypatch, code, LOG + "ptxas info    : " + note + "\n") == ["a.cu: ptxas info    : " + note]
