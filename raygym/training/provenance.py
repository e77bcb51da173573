"""What a run was made with: versions, machine, command; without passwords and tokens."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch

import raygym

PACKAGES = (
    "ray",
    "torch",
    "numpy",
    "gymnasium",
    "ale-py",
    "opencv-python-headless",
    "simplejpeg",
    "grpcio",
    "websockets",
    "av",
    "matplotlib",
    "tensorboard",
)
"""Those whose versions are worth knowing."""
HIDDEN = "***"
"""What stands in the place of a secret."""

_GIT_TIMEOUT_S = 2.0
_SECRETS = (
    (re.compile(r"((?:password|token|secret)=)[^&,\s]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(://)[^/@,\s]+@"), rf"\1{HIDDEN}@"),
)


def versions() -> dict[str, str]:
    """Returns the versions of raygym, Python and the packages that are installed."""
    found = {"raygym": raygym.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    if commit := _commit():
        found["commit"] = commit
    return found


def machine() -> dict[str, Any]:
    """Returns what this machine is; what cannot be found out is left out."""
    found: dict[str, Any] = {
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": _memory_gib(),
        "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
    }
    return {name: value for name, value in found.items() if value not in (None, "")}


def command() -> list[str]:
    """Returns how this process was started, without secrets and the interpreter's directory."""
    program, *arguments = sys.orig_argv or [""]
    return [Path(program).name, *(without_secrets(argument) for argument in arguments)]


def plain(value: Any) -> Any:
    """Returns settings as JSON has them, without secrets.

    Dataclasses become objects, paths become texts, and numbers that are not finite become None.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(one) for one in value]
    if isinstance(value, str | Path):
        return without_secrets(str(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return str(value)


def without_secrets(text: str) -> str:
    """Returns a text with the passwords and tokens of addresses hidden."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _cpu_name() -> str | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "cpu model"):
                return value.strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    with contextlib.suppress(OSError, ValueError):
        pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        return round(pages * page_bytes / 2**30, 1)
    return None


def _commit() -> str | None:
    """Returns the commit of raygym's own checkout; None where it is no checkout."""
    home = Path(raygym.__file__).parent
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asked = ["git", "-C", str(home), "ls-files", "--error-unmatch", "__init__.py"]
        subprocess.run(asked, check=True, capture_output=True, timeout=_GIT_TIMEOUT_S)
        told = subprocess.run(
            ["git", "-C", str(home), "describe", "--always", "--dirty", "--abbrev=12"],
            check=True,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
        )
        return told.stdout.strip() or None
    return None
