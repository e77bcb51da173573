"""Containers as directories: they outlive every process, as an engine's containers do."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from raygym.core import Endpoint, Remote
from raygym.errors import RemoteUnreachable
from raygym.leases.protocols import Found, LeaseFile
from raygym.remote_env.lease_file import read_lease, write_lease

LABELS = "labels.json"


class DirectoryStore:
    """A Store that any number of processes may share; its containers never end by themselves.

    Args:
        root: Each container is a directory in it, named as its Remote; ``made.log`` beside them
            gets a line for each one made.
        boot_s: How long making one takes.
    """

    def __init__(self, root: Path, boot_s: float = 0.0) -> None:
        self._root = root
        self._boot_s = boot_s

    def create(
        self,
        remote_id: str,
        runtime: str,
        *,
        client_id: str,
        variant: Sequence[str],
        cluster: str,
        lease: LeaseFile,
    ) -> Remote:
        """Makes a container, or finds the one made before."""
        directory = self._root / remote_id
        directory.mkdir(exist_ok=True)
        write_lease(directory, lease)
        time.sleep(self._boot_s)
        labels = {
            "cluster": cluster,
            "runtime": runtime,
            "variant": list(variant),
            "first_client": client_id,
        }
        with contextlib.suppress(FileExistsError), (directory / LABELS).open("x") as file:
            json.dump(labels, file)
            with (self._root / "made.log").open("a") as made:
                made.write(f"{remote_id}\n")
        return self.adopt(remote_id)

    def adopt(self, remote_id: str) -> Remote:
        """Returns the Remote of a container that is there; RemoteUnreachable otherwise."""
        directory = self._root / remote_id
        if not (directory / LABELS).exists():
            raise RemoteUnreachable(f"{remote_id}: it does not run", remote_id=remote_id)
        return Remote(
            id=remote_id,
            runtime=json.loads((directory / LABELS).read_text())["runtime"],
            vnc=Endpoint(path=str(directory / "vnc.sock")),
            rewarder=None,
        )

    def write_lease(self, remote_id: str, lease: LeaseFile) -> None:
        """Writes a lease; FileNotFoundError where the container is gone."""
        write_lease(self._root / remote_id, lease)

    def remove(self, remote_id: str) -> None:
        """Removes a container; unknown ids are ignored."""
        shutil.rmtree(self._root / remote_id, ignore_errors=True)

    def log_tail(self, remote_id: str, *, lines: int = 50) -> str:
        """Returns a line that names the Remote, or nothing where it is gone."""
        return f"log of {remote_id}" if (self._root / remote_id / LABELS).exists() else ""

    def memory_mib(self, remote_id: str) -> float | None:
        """Returns None: a directory has no memory."""
        return None

    def survey(self, cluster: str | None) -> Sequence[Found]:
        """Returns the containers, and directories without one."""
        found = [self._found(path) for path in sorted(self._root.iterdir()) if path.is_dir()]
        return [one for one in found if cluster is None or one.cluster in ("", cluster)]

    def close(self) -> None:
        """Does nothing."""

    def made(self) -> list[str]:
        """Returns every Remote that was made, in order."""
        log = self._root / "made.log"
        return log.read_text().split() if log.exists() else []

    def running(self) -> list[str]:
        """Returns the Remotes whose containers are there."""
        return sorted(path.parent.name for path in self._root.glob(f"*/{LABELS}"))

    def _found(self, directory: Path) -> Found:
        labels = {"cluster": "", "runtime": "", "variant": [], "first_client": ""}
        state = "gone"
        with contextlib.suppress(OSError, ValueError):
            labels = json.loads((directory / LABELS).read_text())
            state = "running"
        return Found(
            remote_id=directory.name,
            cluster=labels["cluster"],
            runtime=labels["runtime"],
            variant=tuple(labels["variant"]),
            first_client=labels["first_client"],
            created="",
            state=state,
            directory=directory,
            lease=read_lease(directory),
        )
