"""The set-up script on systems that lack things, simulated by the programs on the PATH."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "dirname", "tr", "sed", "grep", "cat", "cksum", "cut", "ls", "env")
NEEDED = (
    *("Xvnc", "chromium", "setpriv", "python3", "npm", "haxe", "vncviewer"),
    *("shellcheck", "dropbear", "ssh", "rsync", "ip", "prometheus", "promtool"),
)


@pytest.fixture
def system(tmp_path):
    """A system with the named programs only; returns a function that runs the script there."""
    path = tmp_path / "bin"
    path.mkdir()
    for tool in TOOLS:
        (path / tool).symlink_to(shutil.which(tool))

    def run(
        *programs: str, job: str = "test", uid: int = 0, scripts: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        texts = dict.fromkeys(programs, "exit 0") | {"id": f"echo {uid}"} | (scripts or {})
        for name, text in texts.items():
            (path / name).write_text(f"#!/bin/sh\n{text}\n")
            (path / name).chmod(0o755)
        return subprocess.run(
            [shutil.which("sh"), str(ROOT / "scripts" / "setup"), "--plan", job],
            env={"PATH": str(path), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


def test_a_full_system_needs_no_debian_package(system):
    done = system(*NEEDED)
    assert done.returncode == 0, done.stderr
    assert "Debian packages" not in done.stdout
    assert "Ruffle" in done.stdout


def test_missing_packages_are_named_before_anything_is_installed(system):
    done = system("setpriv", "python3", "apt-get", scripts={"apt-cache": "echo Package: chromium"})
    assert done.returncode == 0, done.stderr
    assert (
        "will install Debian packages: "
        "tigervnc-standalone-server chromium npm haxe tigervnc-viewer" in done.stdout
    )


def test_training_does_not_ask_for_what_only_tests_need(system):
    done = system("Xvnc", "chromium", "setpriv", "python3", "npm", job="train")
    assert "haxe" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("uid", "programs", "scripts", "reason"),
    [
        (0, (), {}, "this system has no apt-get"),
        (1000, ("apt-get",), {}, "needs root, and there is no sudo"),
        (
            0,
            ("apt-get",),
            {"apt-cache": "echo 'Description: Transitional package - chromium snap'"},
            "only a stub for a snap",
        ),
    ],
)
def test_where_packages_cannot_be_installed_it_says_what_is_missing_and_how_to_get_it(
    system, uid, programs, scripts, reason
):
    done = system(
        "setpriv",
        "python3",
        "npm",
        "haxe",
        *programs,
        uid=uid,
        scripts={"apt-cache": "exit 0"} | scripts,
    )
    assert done.returncode == 1
    assert reason in done.stderr
    assert "missing: tigervnc-standalone-server chromium" in done.stderr
    assert "apt-get install --no-install-recommends tigervnc-standalone-server" in done.stderr
    assert "docker run" in done.stderr


def test_prometheus_is_unpacked_and_never_installed_as_its_package_starts_a_service(system):
    done = system(*(set(NEEDED) - {"prometheus"}), "apt-get")
    assert done.returncode == 0, done.stderr
    assert "will unpack Prometheus" in done.stdout
    assert "Debian packages" not in done.stdout


def test_without_apt_get_prometheus_has_to_be_on_the_path(system):
    done = system(*(set(NEEDED) - {"promtool"}))
    assert done.returncode == 1
    assert "put both on the PATH" in done.stderr


def test_an_unknown_job_is_refused(system):
    done = system(*NEEDED, job="fly")
    assert done.returncode == 2
    assert "usage" in done.stderr
