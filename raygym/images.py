"""``raygym images build|ls|pull``: the container images of raygym's runtimes.

An image is named ``raygym/<runtime>:<version>`` after the version of raygym that is in it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from raygym import __version__, images_context
from raygym.catalog import Catalog, load_catalog
from raygym.errors import ConfigError, RaygymError
from raygym.images_engine import BuildFailed, PullFailed, connect, refusal, translated

if TYPE_CHECKING:
    from docker.client import DockerClient

BASE = "debian:bookworm-slim"
"""What images are built on unless another is asked for."""
REVISION = "org.opencontainers.image.revision"
"""Label with the digest of the sources that an image was built from."""

_STEP = re.compile(r"Step \S+ : ((?:RUN|COPY) .*)", re.DOTALL)
_STATES = {True: "current", False: "of other code: build it anew", None: "your own"}
_MIB = 2**20
_BAR_WIDTH = 24


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that the engine has, or has not."""

    runtime: str
    """What it serves."""
    tag: str
    """Its name with the version in it."""
    id: str | None = None
    """The engine's own digest of it; None where it is not there."""
    digest: str | None = None
    """``sha256:...`` under which it was published; None for one that was built here."""
    size_bytes: int = 0
    """On disk, layers that it shares with others included."""
    created: str = ""
    """ISO 8601."""
    is_current: bool | None = False
    """Whether it holds this raygym: version, code, Dockerfile and pinned packages. None where
    that is unknown: a runtime of somebody's own."""


def tag_of(runtime: str, catalog: Catalog | None = None) -> str:
    """Returns the name of a runtime's image, as ``raygym/flashgames:0.1.0``.

    Raises:
        ConfigError: There is no such runtime, or it has no image.
    """
    known = (catalog or load_catalog()).runtime(runtime)
    if known.image is None:
        raise ConfigError(
            f"{runtime} has no container image. Those that have: {', '.join(runtimes(catalog))}"
        )
    return f"{known.image}:{__version__}"


def runtimes(catalog: Catalog | None = None) -> list[str]:
    """Returns the runtimes that have an image."""
    known = (catalog or load_catalog()).runtimes
    return [name for name, runtime in known.items() if runtime.image is not None]


def look(engine: DockerClient, runtime: str, *, catalog: Catalog | None = None) -> Image:
    """Returns a runtime's image as the engine has it now.

    Args:
        engine: Where to look.
        runtime: Whose image.
        catalog: Knows the runtime; None takes raygym's.

    Raises:
        ConfigError: There is no such runtime, or it has no image.
        NoEngine: The engine does not answer.
    """
    from docker.errors import ImageNotFound

    tag = tag_of(runtime, catalog)
    with translated(f"looking for {tag}"):
        try:
            found = engine.images.get(tag)
        except ImageNotFound:
            return Image(runtime=runtime, tag=tag)
    digests = found.attrs.get("RepoDigests") or []
    return Image(
        runtime=runtime,
        tag=tag,
        id=found.id,
        digest=digests[0].partition("@")[2] if digests else None,
        size_bytes=found.attrs["Size"],
        created=found.attrs["Created"],
        is_current=_is_current(runtime, found.labels),
    )


def build(
    engine: DockerClient,
    wanted: Sequence[str] = (),
    *,
    base: str = BASE,
    uses_cache: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> list[Image]:
    """Builds images from the package as it is installed.

    Args:
        engine: Where they are built and kept.
        wanted: Runtimes; none: all that have an image.
        base: Image to build on: a Debian 12.
        uses_cache: Whether steps that gave the same before are skipped.
        say: Gets a line for every step.

    Raises:
        BuildFailed: A step failed; ends with the build's log.
        PullFailed: The base is not there, and no registry brings it.
        NoEngine, DiskFull, EngineFailed: The engine is gone, full, or refuses.
        ConfigError: There is no such image.
        DownloadFailed, MissingDependency: What goes into it could not be fetched.
    """
    names = list(wanted or images_context.buildable())
    for runtime in names:
        tag_of(runtime)
        images_context.dockerfile(runtime)
    pinned = _pinned(engine, base)
    return [
        _build(engine, runtime, base=pinned, uses_cache=uses_cache, say=say) for runtime in names
    ]


def _pinned(engine: DockerClient, base: str) -> str:
    """Returns the base image by its digest, where a registry gave it one."""
    from docker.errors import APIError, ImageNotFound

    with translated(f"looking for {base}"):
        try:
            found = engine.images.get(base)
        except ImageNotFound:
            try:
                found = engine.images.pull(base)
            except APIError as error:
                raise PullFailed(
                    f"the base image {base} is not there, and no registry brings it: "
                    f"{error.explanation}. `scripts/engine` in a checkout of raygym makes it from "
                    "Debian's packages; --base names another"
                ) from error
    digests = found.attrs.get("RepoDigests") or [base]
    return str(digests[0])


def _build(
    engine: DockerClient,
    runtime: str,
    *,
    base: str,
    uses_cache: bool,
    say: Callable[[str], None],
) -> Image:
    tag, began_s, log = tag_of(runtime), time.monotonic(), list[str]()
    source = images_context.source_digest(runtime)
    say(f"{tag}: fetching what goes into it")
    with translated(f"building {tag}", log=log):
        architecture = str(engine.version()["Arch"])
        with images_context.pack(runtime, architecture=architecture) as context:
            told = engine.api.build(
                fileobj=context,
                custom_context=True,
                tag=tag,
                buildargs={"BASE": base, "VERSION": __version__, "SOURCE": source},
                network_mode="host",
                nocache=not uses_cache,
                rm=True,
                forcerm=True,
                decode=True,
            )
            _follow(told, tag, log, say)
    image = look(engine, runtime)
    say(f"{tag}: {image.size_bytes / _MIB:.0f} MiB in {time.monotonic() - began_s:.0f} s")
    return image


def _follow(
    told: Iterable[Mapping[str, Any]], tag: str, log: list[str], say: Callable[[str], None]
) -> None:
    """Reads what a build says until its end, so that its connection is free again."""
    error = ""
    for message in told:
        text = str(message.get("stream", ""))
        log.append(text)
        if (step := _STEP.match(text)) is not None:
            say(f"{tag}: {' '.join(step[1].split())[:80]}")
        error = str(message.get("error", error))
    if error:
        raise refusal(BuildFailed, f"building {tag}", error, log)


def pull(
    engine: DockerClient,
    wanted: Sequence[str] = (),
    *,
    catalog: Catalog | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[Image]:
    """Fetches published images, each by the digest that the catalog names.

    Args:
        engine: Where they are kept.
        wanted: Runtimes; none: all that have an image.
        catalog: Names the digests; None takes raygym's.
        progress: Gets the image's name, and bytes that came and that are known of so far.

    Raises:
        ConfigError: The catalog names no published image of one of them; nothing was fetched.
        PullFailed: The registry does not have it, or cannot be reached.
        NoEngine, DiskFull, EngineFailed: The engine is gone, full, or refuses.
    """
    catalog = catalog or load_catalog()
    names = list(wanted or runtimes(catalog))
    tags = {name: tag_of(name, catalog) for name in names}
    unpublished = [name for name in names if catalog.runtime(name).digest is None]
    if unpublished:
        ours = [name for name in unpublished if name in images_context.buildable()]
        remedy = f" Build it: raygym images build {' '.join(ours)}" if ours else ""
        raise ConfigError(f"no published image of {', '.join(unpublished)} is known.{remedy}")
    for name in names:
        runtime = catalog.runtime(name)
        _pull(engine, f"{runtime.image}@{runtime.digest}", tags[name], progress)
    return [look(engine, name, catalog=catalog) for name in names]


def _pull(
    engine: DockerClient, source: str, tag: str, progress: Callable[[str, int, int], None]
) -> None:
    what = f"pulling {source}"
    layers: dict[str, tuple[int, int]] = {}
    error = ""
    with translated(what):
        for message in engine.api.pull(source, stream=True, decode=True):
            error = str(message.get("error", error))
            detail = message.get("progressDetail") or {}
            if message.get("status") == "Downloading" and "total" in detail:
                layers[message["id"]] = (int(detail["current"]), int(detail["total"]))
            came, known = (sum(column) for column in zip((0, 0), *layers.values(), strict=True))
            progress(tag, came, known)
        if error:
            raise refusal(PullFailed, what, error)
        engine.images.get(source).tag(tag)


def ls(engine: DockerClient) -> list[Image]:
    """Returns the image of every runtime that has one, also of those not there yet.

    Raises:
        NoEngine: The engine does not answer.
    """
    catalog = load_catalog()
    return [look(engine, runtime, catalog=catalog) for runtime in runtimes(catalog)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command line of ``raygym images``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("build", help="build images from this raygym").add_argument
    add("runtime", nargs="*", help="all that have an image, if none is named")
    add("--base", default=BASE, metavar="IMAGE", help=f"a Debian 12 to build on; {BASE}")
    add("--no-cache", action="store_true", help="do every step anew")
    add = actions.add_parser(
        "ls", help="list the images, and whether they are current"
    ).add_argument
    add("--json", action="store_true", help="for programs; also where the output is no terminal")
    add = actions.add_parser("pull", help="fetch published images by digest").add_argument
    add("runtime", nargs="*", help="all that have an image, if none is named")


def main(arguments: argparse.Namespace) -> int:
    """Does what the command line of ``raygym images`` asks for; returns the exit status."""
    try:
        engine = connect()
        try:
            _run(engine, arguments)
        finally:
            engine.close()
    except RaygymError as error:
        print(f"raygym images: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _run(engine: DockerClient, arguments: argparse.Namespace) -> None:
    if arguments.action == "build":
        build(
            engine,
            arguments.runtime,
            base=arguments.base,
            uses_cache=not arguments.no_cache,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    elif arguments.action == "pull":
        with _Bar() as bar:
            pull(engine, arguments.runtime, progress=bar)
    is_for_programs = getattr(arguments, "json", False) or not sys.stdout.isatty()
    print(_as_json(ls(engine)) if is_for_programs else table(ls(engine)))


def table(images: Sequence[Image]) -> str:
    """Returns the images as a table for people."""
    line = "{:<28} {:<12} {:>9}  {:<16}  {}".format
    rows = [line("image", "id", "size", "created", "state")]
    for image in images:
        if image.id is None:
            rows.append(line(image.tag, "-", "-", "-", "absent"))
            continue
        state = _STATES[image.is_current]
        short = (image.digest or image.id).removeprefix("sha256:")[:12]
        created = image.created[:16].replace("T", " ")
        size = f"{image.size_bytes / _MIB:.0f} MiB"
        rows.append(line(image.tag, short, size, created, state))
    return "\n".join(row.rstrip() for row in rows)


def _as_json(images: Sequence[Image]) -> str:
    return json.dumps([asdict(image) for image in images], indent=2)


def _is_current(runtime: str, labels: Mapping[str, str]) -> bool | None:
    if runtime not in images_context.buildable():
        return None
    return labels.get(REVISION) == images_context.source_digest(runtime)


class _Bar:
    """A progress bar for every image on a terminal; elsewhere a line."""

    def __init__(self) -> None:
        self._tag = ""
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_line()

    def __call__(self, tag: str, came: int, known: int) -> None:
        if tag != self._tag:
            self._end_line()
            self._tag = tag
            if not self._is_terminal:
                print(f"{tag}: fetching", file=sys.stderr, flush=True)
        if self._is_terminal:
            done = _BAR_WIDTH * came // known if known else 0
            bar = "#" * done + "." * (_BAR_WIDTH - done)
            sizes = f"{came / _MIB:.0f} of {known / _MIB:.0f} MiB"
            print(f"\r{tag} [{bar}] {sizes} ", end="", file=sys.stderr, flush=True)

    def _end_line(self) -> None:
        if self._tag and self._is_terminal:
            print(file=sys.stderr)
