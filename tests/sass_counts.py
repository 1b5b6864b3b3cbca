"""Instructions of tensor cores and of the special-function unit in each kernel of a cubin, or of the cubins inside an object of
nvcc. A kernel is a section .text.<name> of 16-byte instructions with the opcode in the low 12 bits (found by compiling; NVIDIA
does not document it). No CUDA tool is needed."""

import re
import struct

ELF_OF_CUDA = 190
OPCODES = {0x9F0: "wgmma_shared", 0xDF0: "wgmma_registers", 0x308: "mufu"}
FIELDS = list(OPCODES.values())
FATBIN = struct.pack("<IHH", 0xBA55ED50, 1, 16)
FATBIN_ELF = 2


def cubins(image):
    """(architecture without its letter, such as 90; the cubin) of every uncompressed cubin in an object."""
    for start in (match.start() for match in re.finditer(re.escape(FATBIN), image)):
        at, end = start + 16, start + 16 + struct.unpack_from("<Q", image, start + 8)[0]
        while at < end:
            kind, _, header, payload = struct.unpack_from("<HHIQ", image, at)
            if header == 0:
                raise ValueError("an entry of a fat binary without a header")
            if kind == FATBIN_ELF and image[at + header:at + header + 4] == b"\x7fELF":
                yield struct.unpack_from("<I", image, at + 28)[0], image[at + header:at + header + payload]
            at += header + payload


def kernels(cubin):
    """{mangled kernel: {field of FIELDS: count}}"""
    if cubin[:4] != b"\x7fELF" or struct.unpack_from("<H", cubin, 18)[0] != ELF_OF_CUDA:
        raise ValueError("not a cubin")
    table, = struct.unpack_from("<Q", cubin, 40)
    size, number, names = struct.unpack_from("<HHH", cubin, 58)
    sections = [struct.unpack_from("<IIQQQQ", cubin, table + size * k) for k in range(number)]
    strings = sections[names][4]
    found = {}
    for name, _, _, _, offset, length in sections:
        title = cubin[strings + name:cubin.index(b"\0", strings + name)].decode()
        if title.startswith(".text."):
            counts = dict.fromkeys(FIELDS, 0)
            for at in range(offset, offset + length, 16):
                field = OPCODES.get(struct.unpack_from("<H", cubin, at)[0] & 0xFFF)
                if field:
                    counts[field] += 1
            found[title.removeprefix(".text.")] = counts
    return found


def of_file(path):
    """{(architecture, such as 90; mangled kernel): counts} of an object of nvcc."""
    with open(path, "rb") as file:
        image = file.read()
    return {(architecture, name): counts for architecture, cubin in cubins(image) for name, counts in kernels(cubin).items()}
