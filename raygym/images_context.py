"""What the engine gets to build an image from: a Dockerfile, wheels, and what a runtime needs.

All of it comes from the package as it is installed, or from a checkout; Python packages are
fetched on this side, for the engine's processor, so that a build needs no package index.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from raygym import __version__
from raygym.errors import ConfigError, MissingDependency, RaygymError
from raygym.runtimes.cache import cached
from raygym.runtimes.flashgames import ruffle
from raygym.runtimes.wob import miniwob

_PACKAGE = Path(__file__).parent
DOCKERFILES = _PACKAGE / "dockerfiles"
"""Folder of the Dockerfiles and of constraints.txt."""

_PYTHON = "3.11"
_GLIBC_MINOR = 36
"""Of the base image, Debian 12."""
_OLDEST_GLIBC_MINOR = 17
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_DOWNLOAD_TIMEOUT_S = 900.0
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_NEAR_END = (
    *("certs", "cli", "cluster", "dockerfiles", "doctor", "environments", "evaluate", "gateway"),
    *("images", "images_context", "images_engine", "leases", "policies", "remote_env", "remotes"),
    *(
        "films",
        "report",
        "rllib",
        "serve_command",
        "service",
        "shows",
        "train",
        "training",
        "vector",
        "view",
    ),
    *("wall", "watch_command"),
)
"""Parts of raygym, by the first name of their path, that a Remote never imports."""
_NEAR_END_PACKAGES = ("docker", "cloudpickle")
"""What only those parts require."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one runtime's image holds beside raygym and its own requirements."""

    packages: tuple[str, ...] = ()
    """More Python packages, beside raygym's."""
    install: Callable[[], Path] | None = None
    """Installs what else it needs into raygym's cache on this side, and returns the folder."""


RECIPES = {
    "flashgames": Recipe(install=ruffle.install),
    "gym-core": Recipe(packages=("ale-py", "pygame")),
    "wob": Recipe(install=miniwob.install),
}
"""By runtime."""


class DownloadFailed(RaygymError):
    """The Python packages of an image could not be fetched; the message ends with pip's words."""


def dockerfile(runtime: str) -> Path:
    """Returns the Dockerfile of a runtime.

    Raises:
        ConfigError: There is none; the message names those that there are.
    """
    path = DOCKERFILES / f"{runtime}.Dockerfile"
    if runtime not in RECIPES or not path.is_file():
        raise ConfigError(
            f"no image of {runtime!r} can be built. Known: {', '.join(buildable())}; a runtime of "
            "your own has a Dockerfile of its own, for `docker build`"
        )
    return path


def buildable() -> list[str]:
    """Returns the runtimes whose images can be built here."""
    return [name for name in RECIPES if (DOCKERFILES / f"{name}.Dockerfile").is_file()]


def source_digest(runtime: str) -> str:
    """Returns what tells one state of our own sources from another: ``sha256:...``.

    It covers the code of raygym's far end, the Dockerfile, the requirements and the constraints.

    Raises:
        ConfigError: There is no such image.
    """
    hashed = hashlib.sha256(dockerfile(runtime).read_bytes())
    hashed.update("\n".join(_requirements(runtime)).encode())
    hashed.update((DOCKERFILES / "constraints.txt").read_bytes())
    for name, data in _shipped():
        hashed.update(f"{name} {len(data)}\n".encode() + data)
    return f"sha256:{hashed.hexdigest()}"


def wheel() -> bytes:
    """Returns a wheel of raygym's far end as it runs now; the same bytes for the same code."""
    info = f"raygym-{__version__}.dist-info"
    metadata = ["Metadata-Version: 2.1", "Name: raygym", f"Version: {__version__}"]
    metadata += [f"Requires-Dist: {line}" for line in _own_requirements()]
    contents = dict(_shipped())
    contents[f"{info}/METADATA"] = "\n".join([*metadata, ""]).encode()
    contents[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: raygym\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = [f"{name},{_record_hash(data)},{len(data)}" for name, data in contents.items()]
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return packed.getvalue()


def pack(runtime: str, *, architecture: str) -> IO[bytes]:
    """Returns the build context as an open, unnamed tar file; the caller closes it.

    Args:
        runtime: Whose image.
        architecture: The engine's, as it says it: ``amd64`` or ``arm64``.

    Raises:
        ConfigError: There is no such image, or none for that architecture.
        DownloadFailed: Python packages could not be fetched.
        MissingDependency: pip or npm is absent.
    """
    path, recipe = dockerfile(runtime), RECIPES[runtime]
    requirements = _requirements(runtime)
    packed = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    try:
        with tarfile.open(fileobj=packed, mode="w") as archive:
            _add(archive, "Dockerfile", path.read_bytes())
            _add(archive, "wheels/requirements.txt", "\n".join([*requirements, ""]).encode())
            _add_folder(archive, "wheels", wheelhouse(requirements, architecture=architecture))
            _add(archive, f"raygym/raygym-{__version__}-py3-none-any.whl", wheel())
            if recipe.install is not None:
                folder = recipe.install()
                _add_folder(archive, f"cache/{folder.name}", folder)
        packed.seek(0)
    except BaseException:
        packed.close()
        raise
    return packed


def wheelhouse(requirements: Sequence[str], *, architecture: str) -> Path:
    """Returns a folder with the wheels of some packages, in the versions of constraints.txt.

    It is kept in raygym's cache, so that the next build fetches nothing; the same packages in
    the versions of another constraints.txt are removed from there.

    Args:
        requirements: As pip takes them.
        architecture: ``amd64`` or ``arm64``.

    Raises:
        ConfigError: Of another architecture.
        DownloadFailed: pip could not fetch them; the message ends with its words.
        MissingDependency: pip is absent.
    """
    if architecture not in _MACHINES:
        raise ConfigError(
            f"the engine's processors are {architecture!r}; images are built for "
            f"{' and '.join(_MACHINES)}"
        )
    constraints = DOCKERFILES / "constraints.txt"
    asked = json.dumps([sorted(requirements), architecture, _PYTHON])
    asked_key, pinned_key = (
        hashlib.sha256(data).hexdigest()[:12] for data in (asked.encode(), constraints.read_bytes())
    )
    folder = cached(f"wheels-{asked_key}-{pinned_key}")
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=folder.parent) as scratch:
        unfinished = Path(scratch) / "wheels"
        _download(["-c", str(constraints), *requirements], unfinished, architecture)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    for older in folder.parent.glob(f"wheels-{asked_key}-*"):
        if older != folder:
            shutil.rmtree(older, ignore_errors=True)
    return folder


def _download(arguments: Sequence[str], folder: Path, architecture: str) -> None:
    if importlib.util.find_spec("pip") is None:
        raise MissingDependency(
            f"pip is not there for {sys.executable}, and the image's Python packages come "
            "through it; install it with `python -m ensurepip`"
        )
    machine = _MACHINES[architecture]
    minors = range(_GLIBC_MINOR, _OLDEST_GLIBC_MINOR - 1, -1)
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in minors]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder)]
    command += ["--python-version", _PYTHON, "--implementation", "cp"]
    for platform in (*platforms, f"manylinux2014_{machine}", "any"):
        command += ["--platform", platform]
    try:
        subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=_DOWNLOAD_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise DownloadFailed(
            f"`pip download` of the image's packages did not end within {_DOWNLOAD_TIMEOUT_S:g} s; "
            "is the package index reachable?"
        ) from error
    except subprocess.CalledProcessError as error:
        raise DownloadFailed(
            f"`pip download` of the image's packages failed with exit code {error.returncode}; "
            f"is the package index reachable? It said:\n{(error.stderr or '').strip()[-2000:]}"
        ) from error


def _requirements(runtime: str) -> list[str]:
    return [*_own_requirements(), *RECIPES[runtime].packages]


def _own_requirements() -> list[str]:
    try:
        declared = importlib.metadata.requires("raygym") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingDependency(
            "raygym is imported but not installed, so that its requirements are unknown; "
            "install it, as with `pip install -e .` in a checkout"
        ) from error
    return sorted(
        line
        for line in declared
        if "extra ==" not in line and _name(line) not in _NEAR_END_PACKAGES
    )


def _name(requirement: str) -> str:
    found = _NAME.match(requirement)
    return found[0].lower() if found is not None else requirement


def _shipped() -> Iterator[tuple[str, bytes]]:
    """Yields the files of raygym that a Remote needs, in a fixed order."""
    for path in _files(_PACKAGE):
        inside = path.relative_to(_PACKAGE)
        if inside.parts[0].removesuffix(".py") not in _NEAR_END:
            yield f"raygym/{inside.as_posix()}", path.read_bytes()


def _files(folder: Path) -> Iterator[Path]:
    """Yields what a folder holds, in a fixed order."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _record_hash(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def _add_folder(archive: tarfile.TarFile, name: str, folder: Path) -> None:
    for path in _files(folder):
        with path.open("rb") as file:
            entry = _entry(f"{name}/{path.relative_to(folder).as_posix()}", path.stat().st_size)
            archive.addfile(entry, file)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    archive.addfile(_entry(name, len(data)), io.BytesIO(data))


def _entry(name: str, size_bytes: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size_bytes, 0o644
    return entry
