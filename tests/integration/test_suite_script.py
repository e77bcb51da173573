"""The script that runs the suite, on suites of a test's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "suite"
PASSES = "import pytest\n@pytest.mark.alone\ndef test_alone(): pass\ndef test_beside(): pass\n"
AT_SECOND_TRY = """
import pathlib
def test_shaky():
    seen = pathlib.Path(__file__).with_suffix(".seen")
    was_seen = seen.exists()
    seen.touch()
    assert was_seen
"""
NEVER = "def test_broken(): assert False\n"


def run(directory: Path, **files: str) -> subprocess.CompletedProcess[str]:
    for name, text in files.items():
        (directory / f"test_{name}.py").write_text(text)
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = alone: runs alone\n")
    return subprocess.run(
        [SCRIPT, str(directory)], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_suite_that_passes_is_run_once(tmp_path):
    done = run(tmp_path, passes=PASSES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "once more" not in done.stdout


def test_what_passes_at_the_second_try_is_named(tmp_path):
    done = run(tmp_path, passes=PASSES, shaky=AT_SECOND_TRY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "suite: once more, one by one: 1 tests that failed\n" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "suite: passed only alone, to be mended: test_shaky.py::test_shaky"


def test_what_fails_twice_fails(tmp_path):
    done = run(tmp_path, passes=PASSES, shaky=AT_SECOND_TRY, broken=NEVER)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "passed only alone" not in done.stdout


def test_where_many_fail_none_is_tried_again(tmp_path):
    broken = "".join(NEVER.replace("broken", f"broken_{i}") for i in range(9))
    done = run(tmp_path, passes=PASSES, broken=broken)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "suite: failed: 9 tests, not tried again" in done.stderr
    assert "once more" not in done.stdout


@pytest.mark.parametrize("files", [{}, {"passes": PASSES, "error": "import no_such_module\n"}])
def test_a_suite_without_tests_or_that_cannot_be_read_fails(tmp_path, files):
    done = run(tmp_path, **files)
    assert done.returncode != 0, done.stdout + done.stderr
    assert "once more" not in done.stdout or "passed only alone" not in done.stdout
