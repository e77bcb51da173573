"""What is there of remotes in containers: at the engine, and in directories of this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from raygym.remote_env.docker.container import (
    CLUSTER,
    CREATED,
    DIRECTORY,
    FIRST_CLIENT,
    REMOTE,
    RUNTIME,
    VARIANT,
)
from raygym.remote_env.docker.engine import Engine
from raygym.remote_env.lease_file import Found, read_lease

_NEWBORN_S = 5.0
"""An empty directory of this age may be about to get its lease."""


def survey(engine: Engine, root: Path | None, cluster: str | None) -> Sequence[Found]:
    """Returns what is there, by name.

    Args:
        engine: Whose containers are told of.
        root: Where the remotes' directories are; None where there are none.
        cluster: Of which cluster; None takes all. Directories without a container have none,
            and are always told of.

    Raises:
        NoEngine, EnginePermission, EngineFailed: The engine does not answer.
    """
    # Directories first: one whose container is made in between then has it.
    names = [] if root is None else [path.name for path in _directories(root)]
    listed: list[Mapping[str, Any]] = engine.ask(
        "listing containers",
        lambda client: client.api.containers(all=True, filters={"label": [REMOTE]}),
    )
    rows = {str(row["Labels"][REMOTE]): row for row in listed}
    found = [
        _of_container(row, root)
        for row in rows.values()
        if cluster is None or row["Labels"].get(CLUSTER) == cluster
    ]
    if root is not None:
        found += [_of_directory(root / name) for name in names if name not in rows]
    return sorted(found, key=lambda one: one.remote_id)


def _directories(root: Path) -> Iterator[Path]:
    for path in root.iterdir():
        try:
            if path.is_symlink() or not path.is_dir():
                continue
            is_empty = next(path.iterdir(), None) is None
            if is_empty and time.time() - path.stat().st_mtime < _NEWBORN_S:
                continue
        except OSError:
            continue
        yield path


def _of_container(row: Mapping[str, Any], root: Path | None) -> Found:
    labels: Mapping[str, str] = row["Labels"]
    named = Path(labels.get(DIRECTORY) or "/")
    # A label may name a directory of another user's, or of another machine's.
    directory = named if root is not None and named.parent == root and named.is_dir() else None
    return Found(
        remote_id=labels[REMOTE],
        cluster=labels.get(CLUSTER, ""),
        runtime=labels.get(RUNTIME, ""),
        variant=_variant(labels.get(VARIANT, "[]")),
        first_client=labels.get(FIRST_CLIENT, ""),
        created=labels.get(CREATED, ""),
        state=str(row.get("State", "")),
        directory=directory,
        lease=None if directory is None else read_lease(directory),
    )


def _of_directory(directory: Path) -> Found:
    lease = read_lease(directory)
    return Found(
        remote_id=directory.name,
        cluster="",
        runtime="" if lease is None else lease.runtime,
        variant=() if lease is None else lease.variant,
        first_client="" if lease is None else lease.client_id,
        created="",
        state="gone",
        directory=directory,
        lease=lease,
    )


def _variant(text: str) -> tuple[str, ...]:
    try:
        said = json.loads(text)
    except ValueError:
        return ()
    return tuple(str(part) for part in said) if isinstance(said, list) else ()
