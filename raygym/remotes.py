"""``raygym remotes``: the containers of this machine, who holds them, and what to do with them.

Works with and without Ray: what is there stands in labels and in the remotes' own directories.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from raygym.errors import ConfigError, LeaseHeld
from raygym.leases.file_registry import FileRegistry
from raygym.leases.protocols import Found, Holder, LeaseFile, Registry, Store
from raygym.leases.reaper import reap
from raygym.remote_env.state import state_directory
from raygym.view import serve_view

_HEAD = ("id", "runtime", "mode", "state", "client", "plays", "holder", "ends in", "age")


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Adds the actions of ``raygym remotes``."""
    actions = verb.add_subparsers(dest="action", required=True, metavar="ACTION")
    action = actions.add_parser("ls", help="list them; JSON where the output is no terminal")
    action.add_argument("--json", action="store_true", help="JSON on a terminal too")
    action = actions.add_parser("logs", help="print the end of a remote's log")
    action.add_argument("id")
    action.add_argument("--lines", type=int, default=50)
    action = actions.add_parser("release", help="take it from its holder; it is kept a while")
    action.add_argument("id")
    action.add_argument("--force", action="store_true", help="also from a holder that lives")
    action = actions.add_parser("rm", help="remove remotes at once")
    action.add_argument("id", nargs="+")
    action.add_argument("--force", action="store_true", help="also those that somebody holds")
    action = actions.add_parser("view", help="open a port on loopback for a VNC viewer")
    action.add_argument("id")
    action.add_argument("--port", type=int, default=0, help="0 takes a free one")
    actions.add_parser("reap", help="remove what nobody holds any more")


def main(
    arguments: argparse.Namespace,
    *,
    store: Store | None = None,
    registry: Registry | None = None,
    clock: Callable[[], float] = time.time,
) -> int:
    """Does one action; returns the exit status.

    Args:
        arguments: As ``add_arguments`` reads them.
        store: The containers; None connects to the engine.
        registry: The leases of those without Ray; None takes this user's.
        clock: Unix time in seconds.

    Raises:
        ConfigError: No such remote.
        LeaseHeld: A live process holds it, and ``--force`` was not given.
        MissingDependency: No engine answers.
    """
    if store is None:
        from raygym.remote_env.docker.store import DockerStore

        store = DockerStore()
    found = store
    try:
        if registry is None:
            registry = FileRegistry(state_directory(), survey=lambda: found.survey("local"))
        return Remotes(store, registry, clock=clock).do(arguments)
    finally:
        store.close()


class Remotes:
    """The remotes of this machine, as a person handles them.

    Args:
        store: The containers.
        registry: The leases of those without Ray.
        clock: Unix time in seconds.
        ray_registry: Returns the leases of a cluster's name; None joins the Ray in RAY_ADDRESS.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        clock: Callable[[], float],
        ray_registry: Callable[[str], Registry] | None = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._ray_registry = ray_registry or _registry_on_ray

    def do(self, arguments: argparse.Namespace) -> int:
        """Does one action; see ``main``."""
        if arguments.action == "ls":
            self._list(is_json=arguments.json or not sys.stdout.isatty())
        elif arguments.action == "logs":
            found = self._find(arguments.id)
            print(self._store.log_tail(found.remote_id, lines=arguments.lines))
        elif arguments.action == "release":
            self._release(self._find(arguments.id), is_forced=arguments.force)
        elif arguments.action == "rm":
            for found in [self._find(remote_id) for remote_id in arguments.id]:
                self._remove(found, is_forced=arguments.force)
        elif arguments.action == "view":
            remote = self._store.adopt(self._find(arguments.id).remote_id)
            asyncio.run(serve_view(remote, port=arguments.port))
        else:
            removed = reap(self._store, self._registry, now_s=self._clock())
            print("\n".join(f"removed {remote_id}" for remote_id in removed) or "nothing to reap")
        return 0

    def _list(self, *, is_json: bool) -> None:
        found = sorted(self._store.survey(None), key=lambda item: (item.created, item.remote_id))
        if is_json:
            print(json.dumps([_as_json(item) for item in found], indent=2))
            return
        if not found:
            print("no remotes here")
            return
        now_s = self._clock()
        lines = [_HEAD, *(_as_line(item, now_s) for item in found)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join(cells).rstrip())

    def _find(self, remote_id: str) -> Found:
        found = self._store.survey(None)
        for item in found:
            if item.remote_id == remote_id:
                return item
        known = ", ".join(sorted(item.remote_id for item in found)) or "none"
        raise ConfigError(f"no remote {remote_id!r} here. Known: {known}")

    def _release(self, found: Found, *, is_forced: bool) -> None:
        self._check(found, is_forced=is_forced)
        registry = self._registry_of(found.cluster)
        if registry is None:
            self._release_by_file(found)
            return
        row = next((r for r in registry.rows() if r.remote_id == found.remote_id), None)
        kept = None if row is None else registry.release(row)
        if kept is None:
            self._store.remove(found.remote_id)
            print(f"removed {found.remote_id}: it was not to be kept")
            return
        self._store.write_lease(found.remote_id, kept.as_file())
        print(f"released {found.remote_id}: kept for {kept.client_id} for {kept.keep_s:g} s")

    def _registry_of(self, cluster: str) -> Registry | None:
        """Returns who keeps a cluster's leases; None for a Ray that nobody named."""
        if cluster == self._registry.cluster:
            return self._registry
        return self._ray_registry(cluster) if os.environ.get("RAY_ADDRESS") else None

    def _release_by_file(self, found: Found) -> None:
        """Releases what no registry is asked of; the next one reads it from the lease file."""
        lease = found.lease
        if lease is None or _is_held(lease):
            raise ConfigError(
                f"{found.remote_id} belongs to the Ray cluster {found.cluster!r}, and its holder "
                "lives; name that Ray in RAY_ADDRESS so that its registry hears of it, end the "
                f"client, or use: raygym remotes rm --force {found.remote_id}"
            )
        expires_s = self._clock() + lease.keep_s
        kept = replace(lease, token=lease.token + 1, holder=None, expires_unix_s=expires_s)
        self._store.write_lease(found.remote_id, kept)
        print(f"released {found.remote_id}: kept for {kept.client_id} for {kept.keep_s:g} s")

    def _remove(self, found: Found, *, is_forced: bool) -> None:
        self._check(found, is_forced=is_forced)
        for row in self._registry.rows():
            if row.remote_id == found.remote_id:
                self._registry.forget(row.remote_id, row.token)
        self._store.remove(found.remote_id)
        print(f"removed {found.remote_id}")

    def _check(self, found: Found, *, is_forced: bool) -> None:
        lease = found.lease
        if is_forced or found.state != "running" or lease is None:
            return
        if lease.holder is None or lease.expires_unix_s <= self._clock():
            return
        if _is_held(lease):
            raise LeaseHeld(
                f"{found.remote_id}: {_holder(lease)} holds it for {lease.client_id}, until "
                f"{lease.expires_unix_s - self._clock():.0f} s from now unless renewed; end that "
                "process, or take it away with --force",
                remote_id=found.remote_id,
            )


def _is_held(lease: LeaseFile) -> bool:
    """Returns whether the holder may live; it is on this machine, whatever Ray calls it."""
    if lease.holder is None:
        return False
    here = Holder.this_process()
    return not Holder(**{**lease.holder, "node": here.node}).is_dead(here=here)


def _registry_on_ray(cluster: str) -> Registry:
    import ray

    from raygym.service.leased import docker_store
    from raygym.service.ray_registry import RayRegistry

    address = os.environ["RAY_ADDRESS"]
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"RAY_ADDRESS={address}: that Ray cluster cannot be joined: {error}"
        ) from error
    return RayRegistry(docker_store, cluster=cluster)


def _holder(lease: LeaseFile | None) -> str:
    if lease is None:
        return "-"
    if lease.holder is None:
        return "(kept)" if lease.client_id else "(spare)"
    return f"{lease.holder.get('node')}:{lease.holder.get('pid')}"


def _mode(variant: Sequence[str]) -> str:
    arguments = list(variant)
    return arguments[arguments.index("--mode") + 1] if "--mode" in arguments[:-1] else "-"


def _as_line(found: Found, now_s: float) -> tuple[str, ...]:
    lease = found.lease
    return (
        found.remote_id,
        found.runtime or "-",
        _mode(found.variant),
        found.state,
        (lease.client_id if lease else found.first_client) or "-",
        (lease.env_id if lease else None) or "-",
        _holder(lease),
        "-" if lease is None else f"{max(0.0, lease.expires_unix_s - now_s):.0f} s",
        _age(found.created, now_s),
    )


def _age(created: str, now_s: float) -> str:
    try:
        made = datetime.fromisoformat(created)
    except ValueError:
        return "-"
    age_s = now_s - made.replace(tzinfo=made.tzinfo or UTC).timestamp()
    for unit, seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if age_s >= seconds:
            return f"{age_s / seconds:.0f} {unit}"
    return f"{age_s:.0f} s"


def _as_json(found: Found) -> dict[str, Any]:
    return {
        **asdict(found),
        "directory": None if found.directory is None else str(found.directory),
    }
