"""``raygym doctor``: can the main job run here, and if not, what is missing.

The main job is ``python -m raygym.train --env flashgames.NeonRace-v0`` with remotes
that are processes of this machine.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from raygym.environments.docker import why_no_docker
from raygym.errors import MissingDependency
from raygym.runtimes.flashgames.ruffle import ruffle_dir
from raygym.runtimes.wob.miniwob import pages_dir

_DOCKER_HINT = "or run it in Docker, as docs/install.md shows"
_MEMORY_PER_REMOTE_MIB = 550
_BASE_MEMORY_MIB = 1500


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    """What was looked at."""
    is_ok: bool
    """Whether it is as it should be."""
    is_required: bool
    """Whether the main job cannot run without it."""
    seen: str
    """What was found."""
    remedy: str = ""
    """What to do; empty where nothing needs doing."""


def check_python() -> Check:
    """Looks at the interpreter's version."""
    ok = sys.version_info >= (3, 11)
    return Check(
        name="python",
        is_ok=ok,
        is_required=True,
        seen=platform.python_version(),
        remedy="" if ok else "use Python 3.11 or newer",
    )


def check_package(name: str, distribution: str, *, extra: str = "") -> Check:
    """Looks for an importable package without importing it."""
    found = importlib.util.find_spec(name) is not None
    seen = importlib.metadata.version(distribution) if found else "not installed"
    target = f"raygym[{extra}]" if extra else "raygym"
    return Check(
        name=f"package {distribution}",
        is_ok=found,
        is_required=True,
        seen=seen,
        remedy="" if found else f"pip install '{target}' -c constraints.txt",
    )


def check_program(
    program: str,
    package: str,
    *,
    version_flags: Sequence[str] = ("--version",),
    is_required: bool = True,
    variable: str = "",
) -> Check:
    """Runs a program for its version, so that a stub that only prints advice is found out.

    Args:
        program: Name on the PATH.
        package: Debian package that holds it.
        version_flags: Arguments that make it print its version and end.
        is_required: Whether the main job cannot run without it.
        variable: Environment variable that may name another path.
    """
    wanted = os.environ.get(variable, program) if variable else program
    path = shutil.which(wanted)
    remedy = f"apt-get install --no-install-recommends {package}, {_DOCKER_HINT}"
    if variable:
        remedy += f"; {variable}=/path/to/it names another one"
    if path is None:
        return Check(
            name=program,
            is_ok=False,
            is_required=is_required,
            seen=f"{wanted} is not on the PATH",
            remedy=remedy,
        )
    try:
        done = subprocess.run(
            [path, *version_flags], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(
            name=program, is_ok=False, is_required=is_required, seen=str(error), remedy=remedy
        )
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    text = " ".join(lines)
    is_stub = "snap" in text.lower() or not any(c.isdigit() for c in text)
    return Check(
        name=program,
        is_ok=not is_stub,
        is_required=is_required,
        seen=f"{path}: {lines[0][:80] if lines else 'says nothing'}",
        remedy=f"this is only a stub for a snap: {remedy}" if is_stub else "",
    )


def check_ruffle() -> Check:
    """Looks for Ruffle, the Flash player, in the cache."""
    try:
        seen, remedy = str(ruffle_dir()), ""
    except MissingDependency as error:
        seen, remedy = "not installed", str(error)
    return Check(name="ruffle", is_ok=not remedy, is_required=True, seen=seen, remedy=remedy)


def check_miniwob() -> Check:
    """Looks for miniwob's pages, which only the tasks of wob need."""
    try:
        seen, remedy = str(pages_dir()), ""
    except MissingDependency as error:
        seen, remedy = "not installed", str(error)
    return Check(name="miniwob", is_ok=not remedy, is_required=False, seen=seen, remedy=remedy)


def check_docker(runtime: str = "flashgames") -> Check:
    """Looks for a Docker engine, and the image of a Runtime in it."""
    why_not = why_no_docker(runtime)
    return Check(
        name="docker",
        is_ok=why_not is None,
        is_required=False,
        seen=why_not or f"an engine answers and has the image of {runtime}",
        remedy="" if why_not is None else "for remotes in containers see docs/docker.md",
    )


def check_memory(available_mib: int | None = None) -> Check:
    """Looks at the memory that is free for remotes."""
    if available_mib is None:
        available_mib = _available_memory_mib()
    remotes = max(0, (available_mib - _BASE_MEMORY_MIB) // _MEMORY_PER_REMOTE_MIB)
    return Check(
        name="memory",
        is_ok=remotes >= 1,
        is_required=True,
        seen=f"{available_mib} MiB available, enough for {remotes} flashgames remotes",
        remedy="" if remotes >= 1 else "free some memory: about 2 GiB are needed",
    )


def check_private_directory() -> Check:
    """Looks whether sockets can live in the directory for temporary files."""
    try:
        with tempfile.TemporaryDirectory(prefix="raygym-doctor-") as directory:
            Path(directory, "probe").touch()
            seen, remedy = tempfile.gettempdir(), ""
            if len(directory) > 60:
                remedy = "set TMPDIR to a shorter path: a unix socket's path has at most 107 bytes"
    except OSError as error:
        seen, remedy = str(error), "set TMPDIR to a directory that can be written"
    return Check(
        name="temporary files", is_ok=not remedy, is_required=True, seen=seen, remedy=remedy
    )


def _available_memory_mib() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


CHECKS: tuple[Callable[[], Check], ...] = (
    check_python,
    lambda: check_package("gymnasium", "gymnasium"),
    lambda: check_package("cv2", "opencv-python-headless"),
    lambda: check_package("simplejpeg", "simplejpeg"),
    lambda: check_package("websockets", "websockets"),
    lambda: check_package("ray", "ray", extra="train"),
    lambda: check_package("torch", "torch", extra="train"),
    lambda: check_package("tyro", "tyro", extra="train"),
    lambda: check_package("rich", "rich", extra="train"),
    lambda: check_package("tensorboard", "tensorboard", extra="train"),
    lambda: check_program("Xvnc", "tigervnc-standalone-server", version_flags=("-version",)),
    lambda: check_program("chromium", "chromium", variable="RAYGYM_CHROMIUM"),
    lambda: check_program("setpriv", "util-linux"),
    check_ruffle,
    check_private_directory,
    check_memory,
    check_miniwob,
    check_docker,
    lambda: check_program("haxe", "haxe", is_required=False),
    lambda: check_program("vncviewer", "tigervnc-viewer", is_required=False),
)


def run_checks(checks: Sequence[Callable[[], Check]] = CHECKS) -> list[Check]:
    """Looks at everything, in order."""
    return [check() for check in checks]


def can_train(checks: Sequence[Check]) -> bool:
    """Returns whether nothing is missing that the main job needs."""
    return all(check.is_ok for check in checks if check.is_required)


def report(checks: Sequence[Check], *, as_json: bool) -> str:
    """Returns what a person, or with ``as_json`` a program, reads."""
    if as_json:
        return json.dumps(
            {"can_train": can_train(checks), "checks": [asdict(check) for check in checks]},
            indent=2,
        )
    lines = []
    for check in checks:
        mark = "ok" if check.is_ok else ("MISSING" if check.is_required else "optional")
        lines.append(f"{mark:>8}  {check.name:<32} {check.seen}")
        if check.remedy:
            lines.append(f"{'':>8}  -> {check.remedy}")
    verdict = (
        "Ready: python -m raygym.train --env flashgames.NeonRace-v0"
        if can_train(checks)
        else "Not ready: mend what is marked MISSING."
    )
    return "\n".join([*lines, "", verdict])


def main(*, as_json: bool = False) -> int:
    """Prints the report; returns the exit status, 1 if the main job cannot run."""
    checks = run_checks()
    print(report(checks, as_json=as_json))
    return 0 if can_train(checks) else 1
