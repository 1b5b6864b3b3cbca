"""The three steps of variants/README.md, executed: its file and its line make a variant that is listed and passes the check,
and a wrong variant does not. The line goes into a folder of variants of its own, so that the tree stays as it is and every
object of the build under test is used again."""

import os
import re
import shutil
import subprocess

import pytest

from program import BUILD, SOURCE

README = (SOURCE / "variants" / "README.md").read_text()
STEPS = README[README.index("## Add a variant in three steps"):]


def block(language):
    return re.search(rf"```{language}\n(.*?)```", STEPS, re.DOTALL).group(1)


def steps():
    """Path and text of the file, the line, the arguments of the command."""
    path = re.search(r"\*\*1\. One file\*\*, `variants/([^`]+)`", STEPS).group(1)
    program, *arguments = block("sh").split()
    assert program == "./attnbench"
    return path, block("cpp"), block("cmake"), arguments


def copy_of_the_build(folder):
    """Objects with their times and ninja's records; commands are relative to the build folder, so they stay valid."""
    shutil.copytree(BUILD, folder, copy_function=shutil.copy2, symlinks=True, ignore=lambda where, names: [
        name for name in names if where == str(BUILD) and (
            name in ("tests", "Testing", "attnbench", "_deps") or name.startswith("."))
        and name not in (".ninja_deps", ".ninja_log")])
    cache = folder / "CMakeCache.txt"
    cache.write_text(cache.read_text().replace(f"CMAKE_CACHEFILE_DIR:INTERNAL={BUILD}",
                                               f"CMAKE_CACHEFILE_DIR:INTERNAL={folder}"))


def succeed(*command):
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CCACHE_DISABLE": "1"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder, variants):
    succeed("cmake", "-S", SOURCE, "-B", folder, f"-DATTN_EXTRA_VARIANTS={variants}", "-DBUILD_TESTING=OFF")
    # What CMake generates has its whole path in commands: that of the build under test, so that its objects are used again.
    rules = folder / "build.ninja"
    rules.write_text(re.sub(rf"{re.escape(str(folder))}(?=/generated\b(?!/)|/\S+/Unity/)", str(BUILD), rules.read_text()))
    return succeed("ninja", "-C", folder, "attnbench")


def run(folder, *arguments):
    return subprocess.run([folder / "attnbench", *arguments], capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Steps 1 and 2 in a folder of variants, and a build that has it."""
    path, text, line, _ = steps()
    variants, folder = tmp_path_factory.mktemp("variants"), tmp_path_factory.mktemp("project") / "build"
    source = variants / path
    source.parent.mkdir(parents=True)
    source.write_text(text)
    (variants / "CMakeLists.txt").write_text(line)
    copy_of_the_build(folder)
    log = build(folder, variants)
    assert path in log
    assert "reference_cpu.cpp" not in log and "Unity" not in log, "the build under test was not used again:\n" + log
    return variants, folder, source


def test_the_variant_is_listed_and_passes_the_check(project):
    _, folder, _ = project
    assert "example/cpu" in run(folder, "list").stdout
    done = run(folder, *steps()[3])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "example/cpu" in done.stdout


@pytest.mark.parametrize("right, wrong", [
    ("sum += q[c] * k[c]", "sum += q[c] * k[p.head_dim - 1 - c]"),
    ("rule.allows(b, i, j)", "rule.allows(b, i, std::max(j - 1, int64_t{0}))"),
])
def test_a_wrong_variant_fails_the_check(project, right, wrong):
    variants, folder, source = project
    text = steps()[1]
    assert text.count(right) == 1
    source.write_text(text.replace(right, wrong))
    build(folder, variants)
    done = run(folder, *steps()[3], "--quick")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "example/cpu" in done.stdout
