"""The command ``raygym``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raygym import (
    __version__,
    certs,
    cluster,
    doctor,
    images,
    remotes,
    serve_command,
    watch_command,
)
from raygym.catalog import Catalog, EnvSpec, load_catalog
from raygym.errors import ConfigError, RaygymError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="raygym",
        description="Programs behind a screen or a socket as Gymnasium environments, on Ray.",
        epilog="Also, with --help: python -m raygym.train, raygym.evaluate, raygym.report.",
    )
    parser.add_argument("--version", action="version", version=f"raygym {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser(
        "doctor", help="say what the main job lacks here; exit 1 if it can't run"
    )
    verb.add_argument("--json", action="store_true", help="for programs")
    verb = verbs.add_parser("envs", help="list the environments, with those in RAYGYM_GAMES")
    verb.add_argument("--json", action="store_true", help="for programs")
    verb = verbs.add_parser("certs", help="make certificates for gRPC remotes")
    _add_certs(verb)
    verb = verbs.add_parser("remotes", help="list, look at and remove containers of remotes")
    remotes.add_arguments(verb)
    verb = verbs.add_parser("images", help="build, list and fetch container images")
    images.add_arguments(verb)
    verb = verbs.add_parser("cluster", help="start a Ray cluster, look at its slots, end it")
    cluster.add_arguments(verb)
    verb = verbs.add_parser("serve", help="lease remotes to clients without Ray")
    serve_command.add_arguments(verb)
    verb = verbs.add_parser("watch", help="show a live picture of every slot on one page")
    watch_command.add_arguments(verb)
    return parser


def _add_certs(verb: argparse.ArgumentParser) -> None:
    actions = verb.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser(
        "init", help="make an authority, and a server's and a client's certificate"
    ).add_argument
    add("--directory", type=Path, default=Path("certs"), help="where they go; made if need be")
    add(
        "--host",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME_OR_IP",
        help="what clients call the server by, beside localhost and this machine's name",
    )
    add("--days", type=int, default=365, help="how long they are good")
    add("--force", action="store_true", help="replace the files that are there")


def _as_row(spec: EnvSpec) -> dict[str, Any]:
    return {
        "id": spec.id,
        "runtime": spec.runtime,
        "title": spec.title,
        "fps": spec.fps,
        "size": [spec.region.width, spec.region.height],
        "action_count": len(spec.actions),
        "actions": None if spec.is_momentary else [" ".join(keys) for keys in spec.actions],
        "max_episode_s": spec.max_episode_s,
        "score_floor": spec.score_floor,
        "score_ceiling": spec.score_ceiling,
    }


def _print_envs(catalog: Catalog, *, as_json: bool) -> None:
    specs = sorted(catalog.envs.values(), key=lambda spec: spec.id)
    if as_json:
        print(json.dumps([_as_row(spec) for spec in specs], indent=2))
        return
    line = "{:<30} {:<12} {:>5} {:>9} {:>9} {:>9}  {}".format
    print(line("id", "runtime", "fps", "size", "floor", "ceiling", "title"))
    for spec in specs:
        floor, ceiling = (
            "-" if score is None else f"{score:.1f}"
            for score in (spec.score_floor, spec.score_ceiling)
        )
        size = f"{spec.region.width}x{spec.region.height}"
        print(line(spec.id, spec.runtime, f"{spec.fps:g}", size, floor, ceiling, spec.title))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.verb == "doctor":
            return doctor.main(as_json=arguments.json)
        if arguments.verb == "certs":
            made = certs.init(
                arguments.directory,
                hosts=arguments.host,
                days=arguments.days,
                overwrite=arguments.force,
            )
            print(certs.report(made))
            return 0
        if arguments.verb == "remotes":
            return remotes.main(arguments)
        if arguments.verb == "images":
            return images.main(arguments)
        if arguments.verb == "cluster":
            return cluster.main(arguments)
        if arguments.verb == "serve":
            return serve_command.main(arguments)
        if arguments.verb == "watch":
            return watch_command.main(arguments)
        _print_envs(load_catalog(), as_json=arguments.json)
    except ConfigError as error:
        print(f"raygym: {error}", file=sys.stderr)
        return 2
    except RaygymError as error:
        print(f"raygym: {error}", file=sys.stderr)
        return 1
    return 0
