"""Files and texts made to do harm: each is refused in one line with exit code 2, in little memory and without waiting."""

import csv
import os
import resource
import shutil
import struct

import pytest

from program import SOURCE, usage_error

LITTLE_MEMORY = 2 << 30  # of address space: the program with its libraries and threads, without what the file asks for


def refused(*arguments, **keywords):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (LITTLE_MEMORY, LITTLE_MEMORY))

    return usage_error(*arguments, preexec_fn=limit, errors="replace", timeout=120, **keywords)


def checked(problem, **keywords):
    return refused("check", "--variants", "reference/cpu", "--problem", problem, **keywords)


@pytest.mark.parametrize("text, said", [
    ("nq=-1", "nq '-1'"), ("nq=1e3", "nq '1e3'"), ("nq=99999999999999999999", "2^40"), ("nq=2147483649", "2^31"),
    ("b=2147483648,nq=2147483648,hq=2147483648,d=2147483648", "2^48"), ("hq=65536,nq=65536,nk=131072,d=1", "2^48"),
    ("b=65536,hq=65536,nq=131072,nk=1,d=1", "2^48"), ("hq=65536,d=65536,scope=block,nq=1,dm=2147483648", "2^48"),
    ("scope=block,dm=1099511627776", "2^31"), ("pos=shaw:1048576,d=2147483648,nq=1", "2^48"), ("pos=shaw:2000000", "2^20"),
    ("scale=nan", "finite"), ("scale=1e999", "finite"), ("softcap=-1", "positive"), ("pos=rope:inf", "finite"),
    ("mask=padding:-1", "-1"), ("mask=window:-1:0", "-1"), ("mask=padding:" + "1/" * 5000 + "1", "5001 lengths"),
    ("mask=" + "causal+" * 5000 + "none", "twice"), ("nq=1\n2", "1 2"), ("=" * 5000, "form"), (",", "form"),
    ("nq=\x01\xff", "nq"),
])
def test_problem_texts(text, said):
    assert said in checked(text)


def block_mask(tmp_path, text):
    path = tmp_path / "mask.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return checked(f"hq=1,nq=4,d=4,mask=blocks:{path}")


@pytest.mark.parametrize("text, said", [
    ("", "empty"), ("1 1 4\n", "first line"), ("-1 1 4 4\n", "-1"), ("0 1 4 4\n", "positive"),
    ("1 1 2147483648 2147483648\n\n", "2^26"), ("1 1 1099511627776 1099511627776\n", "2^26"),
    ("1 1 99999999999999999999 1\n", "2^40"), ("1 1 1 67108864\n", "0 block rows"), ("1 1 67108864 1\n\n", "1 block rows"),
    ("1 1 4 4\n0\n1\n2\n", "3 block rows"), ("1 1 4 4\n0\n1\n2\n3\n0\n", "more rows"), ("1 1 4 4\n4\n\n\n\n", "past the last"),
    ("1 1 4 4\n1 0\n\n\n\n", "ascend"), ("1 1 4 4\n-1\n\n\n\n", "-1"), (b"\0" * 5000, "entry"), (b"\xff\xfe1 1", "entry"),
    ("9 9 1 1\n0\n1 1 4 4\n", "more rows"), ("9 1 1 1\n0\n", "1 x 4"),
])
def test_block_masks(tmp_path, text, said):
    assert said in block_mask(tmp_path, text)


def special_files(tmp_path):
    """Names that are no regular file one can read."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "zero").symlink_to("/dev/zero")
    return {"folder": "is a folder", "pipe": "not a regular file", "loop": "symbolic links", "dangling": "No such file",
            "zero": "not a regular file"}


def test_what_is_no_file(tmp_path):
    for name, said in special_files(tmp_path).items():
        path = tmp_path / name
        assert said in checked(f"hq=1,nq=4,d=4,mask=blocks:{path}")
        assert said in refused("eval", "--variant", "reference/cpu", "--q", path, "--k", path, "--v", path, "--out", tmp_path / "o")
        preset = tmp_path / f"{name}.toml"
        path.rename(preset)
        if name != "loop":  # which now names another file
            assert said in refused("sweep", "--preset", preset, "--dry-run")
        campaign = tmp_path / f"campaign of {name}"
        campaign.mkdir()
        preset.rename(campaign / "results.csv")
        if name not in ("loop", "dangling"):  # which says that there are no results
            assert said in refused("fit", campaign)


def sparse(path, size):
    """A file of `size` bytes that takes no room."""
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def test_huge_files(tmp_path):
    assert "larger" in checked(f"hq=1,nq=4,d=4,mask=blocks:{sparse(tmp_path / 'mask', 1 << 34)}")
    assert "larger" in refused("sweep", "--dry-run", "--preset", sparse(tmp_path / "huge.toml", 1 << 34))
    sparse(tmp_path / "results.csv", 1 << 34)
    assert "larger" in refused("fit", tmp_path)
    q = sparse(tmp_path / "q.npy", 1 << 34)
    assert "not a .npy" in refused("eval", "--variant", "reference/cpu", "--q", q, "--k", q, "--v", q, "--out", tmp_path / "o")


def npy(shape, descr="'<f4'", order="False", version=1, length=None, data=16):
    dictionary = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    length = len(dictionary) if length is None else length
    size = struct.pack("<H", length) if version == 1 else struct.pack("<I", length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + dictionary + bytes(data)


@pytest.mark.parametrize("content, said", [
    (b"", "not a .npy"), (b"\x93NUMPY\1", "not a .npy"), (b"\x93NUMPY\1\0", "ends within"), (npy("(1, 1, 1, 4)", version=3), "version 3"),
    (npy("(1, 1, 1, 4)", length=60000), "longer"), (npy("(1, 1, 1, 4)", version=2, length=0xffffffff), "longer"),
    (npy("(1, 1, 1, 4)", length=9999), "ends within"), (npy("(1, 1, 1, 4)", length=0), "ends within"),
    (npy("(4294967296, 4294967296, 1, 4)"), "too large"), (npy("(999999999999999, 1, 1, 4)"), "too large"),
    (npy("(99999999999999999999, 1, 1, 4)"), "too large"), (npy("(1048576, 1048576, 1, 1)"), "16 bytes of data"),
    (npy("(-1, 1, 1, 4)"), "no 'shape'"), (npy("(1, 1, 1, 4"), "no 'shape'"), (npy("4"), "no 'shape'"), (npy("(0x1, 1, 1, 4)"), "no 'shape'"),
    (npy("(1, 1, 1, 4)", descr="'|O'"), "dtype"), (npy("(1, 1, 1, 4)", descr="[('a', '<f4')]"), "dtype"),
    (npy("(1, 1, 1, 4)", order="True"), "Fortran"), (npy("(1, 1, 1, 4)", data=15), "15 bytes"), (npy("(1, 1, 1, 4)", data=17), "17 bytes"),
    (npy("(0, 1, 1, 4)", data=0), "from 1 to 2^31"), (npy("(" + "1, " * 3000 + ")", data=4), "4 axes"),
    (npy("(1, 1, 1, 4)").replace(b"shape", b"shape\n"), "no 'shape'"),
])
def test_npy_files(tmp_path, content, said):
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    out = tmp_path / "o.npy"
    assert said in refused("eval", "--variant", "reference/cpu", "--q", path, "--k", path, "--v", path, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize("text, said", [
    ("", "[[sweep]]"), ("[[sweep]]\nn = -1\n", "-1"), ("[[sweep]]\nn = 9223372036854775807\n", "2^31"), ("[[sweep]]\nn = 1e400\n", "toml"),
    ("[[sweep]]\nn = '1:2147483648:+1'\n", "1000 values"), ("[[sweep]]\nn = nan\n", "nan"), ("[[sweep]]\nn = [[1]]\n", "list"),
    ("[[sweep]]\nn = []\n", "empty list"), ("sweep = 3\n", "[[sweep]]"), ("[sweep]\nn = 1\n", "[[sweep]]"), ("[[sweep]]\nx = 1\n", "'x'"),
    ("n = 1\n[[sweep]]\n", "'n'"), ("[[sweep]]\nn = " + "[" * 5000 + "\n", "toml"), ("[[sweep]]\nn = '" + "1" * 100000 + "'\n", "2^31"),
    ("[[sweep]]\nn = 1\nn = 2\n", "toml:3"), ("\0", "toml:1"), (b"[[sweep]]\nn = '\xff\xfe'\n", "toml:2"), ("memory-limit = '1e300G'\n[[sweep]]\n", "memory-limit"),
    ("threads = 1\n[[sweep]]\n", "'threads'"), ("[[sweep]]\nthreads = 100000\n", "1024"), ("[[sweep]]\nproblem = 'nq=0'\n", "nq=0"),
    ("[[sweep]]\n" + "".join(f"{axis} = '1:1000:+1'\n" for axis in ("n", "nk", "batch")), "100000 points"),
    ("[[sweep]]\nvariants = '" + "(" * 3000 + "'\n", "variants"),
])
def test_presets(tmp_path, text, said):
    path = tmp_path / "p.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert said in refused("sweep", "--dry-run", "--preset", path)


def test_results(tmp_path):
    good = (SOURCE / "results" / "quick" / "results.csv").read_text().splitlines(keepends=True)
    names = good[0].strip().split(",")
    shutil.copy(SOURCE / "results" / "quick" / "samples.csv", tmp_path)

    def said(*lines):
        (tmp_path / "results.csv").write_bytes("".join(lines).encode("latin-1"))
        return refused("fit", tmp_path)

    def changed(column, value):
        (fields,) = csv.reader([good[1]])
        fields[names.index(column)] = value
        return said(good[0], ",".join(f'"{field}"' for field in fields) + "\n")

    assert "columns" in said("\0" * 1000 + "\n")
    assert "columns" in said(good[0].replace("schema", "scheme"))
    assert "too few" in said(good[0], "1,2,3\n")
    assert "too many" in said(good[0], good[1].strip() + ",\n")
    assert "does not end" in said(good[0], '"abc\n')
    assert "seq_q" in changed("seq_q", "1e999")
    assert "seq_q" in changed("seq_q", "99999999999999999999")
    assert "density" in changed("density", "")
    assert "status" in changed("status", "fine")
    assert "results.csv:2" in changed("batch", "\xff" * 10000)
