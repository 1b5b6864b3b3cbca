"""`attnbench bundle`: the program builds from it alone, with the packages it was made from hidden in a mount namespace."""

import os
import subprocess
from pathlib import Path

import pytest

from program import SOURCE

PACKAGES = ["libfmt-dev", "libfmt9", "libeigen3-dev", "libbenchmark-dev", "libbenchmark1debian", "nlohmann-json3-dev", "libcli11-dev",
            "libtomlplusplus-dev", "libhwy-dev", "libhwy1", "libhwloc-dev", "libhwloc15", "libopenblas-openmp-dev",
            "libopenblas0-openmp", "pkg-config", "pkgconf", "pkgconf-bin", "libudev1"]
PARTS = ("/usr/include/", "/usr/lib/", "/lib/", "/usr/share/cmake", "/usr/share/eigen3", "/usr/share/pkgconfig", "/usr/bin/")


def why_not():
    if os.geteuid() != 0:
        return "only root may hide files from a process"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "no mount namespaces here"
    return ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


def installed_files():
    files = set()
    for package in PACKAGES:
        listed = subprocess.run(["dpkg-query", "--listfiles", package], capture_output=True, text=True, check=False)
        files |= {line for line in listed.stdout.splitlines() if line.startswith(PARTS) and Path(line).is_file()}
    return files


def hide(files, empty):
    """Shell lines that put nothing in the place of every file: of a package's own folder of headers at once."""
    folders = {"/".join(file.split("/")[:4]) for file in files if file.startswith("/usr/include/") and file.count("/") > 3}
    folders = {folder for folder in folders if not folder.endswith("-linux-gnu")}  # has the compiler's headers too
    alone = [file for file in sorted(files) if not any(file.startswith(f"{folder}/") for folder in folders)]
    return [f"mount --bind {empty} {folder}" for folder in sorted(folders)] + [f"mount --bind /dev/null {file}" for file in alone]


@pytest.fixture(name="bundle", scope="module")
def fixture_bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "bundle"
    done = subprocess.run([SOURCE / "attnbench", "bundle", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_it_is_small(bundle):
    assert sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) < 40 << 20


def test_it_is_made_anew_but_over_nothing_else(bundle, tmp_path):
    (tmp_path / "mine").write_text("mine")
    done = subprocess.run([SOURCE / "attnbench", "bundle", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "is no bundle" in done.stderr and (tmp_path / "mine").exists()
    assert subprocess.run([SOURCE / "attnbench", "bundle", bundle], capture_output=True, check=False).returncode == 0


def test_the_program_builds_with_the_packages_hidden(bundle, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    build = tmp_path / "build"
    # As on a day with a GPU, what bundles are for; the kernels of the roofs use the headers and the library that variants would.
    flags = ("-DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 -DATTN_CUDA=OFF -DATTN_CPU_VARIANTS=OFF -DATTN_PEERS=OFF "
             "-DBUILD_TESTING=OFF -DCMAKE_UNITY_BUILD=ON")
    script = ["set -e", *hide(installed_files(), empty),
              "! test -s /usr/include/hwloc.h", "! test -e /usr/include/fmt/core.h",
              f"cmake -S {SOURCE} -B {build} -G Ninja {flags} -DCMAKE_PREFIX_PATH={bundle}", f"ninja -C {build} attnbench",
              f"{build}/attnbench env", f"ldd {build}/attnbench",
              f"{build}/attnbench check --variants '^reference/cpu$' --problem hq=2,nq=33,d=16,mask=causal,scope=block"]
    done = subprocess.run(["unshare", "--mount", "bash", "-c", "\n".join(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Eigen's products" in done.stdout
    for library in ("libhwy", "libbenchmark", "libudev"):
        assert f"{bundle}/lib/{library}" in done.stdout
    assert "openblas" not in done.stdout
