"""An actor that holds leased remotes, as an EnvActor does; its process imports no torch."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from raygym.core import Remote
from raygym.leases.protocols import Store
from raygym.service.leased import leased_backend_on_ray
from tests.support.directory_store import DirectoryStore


class LeaseHolder:
    """Holds the remotes of one Backend, in a process of its own.

    Args:
        store_factory: Makes a node's Store.
        settings: Of ``leased_backend_on_ray``.
    """

    def __init__(self, store_factory: Callable[[], Store], settings: dict[str, Any]) -> None:
        self._backend = leased_backend_on_ray(store_factory, **settings)

    def start(self, runtime: str, client_id: str) -> Remote:
        """See ``Backend.start``."""
        return self._backend.start(runtime, client_id=client_id)

    def list(self) -> list[str]:
        """Returns the ids of the remotes held."""
        return [remote.id for remote in self._backend.list()]

    def log_tail(self, remote_id: str) -> str:
        """See ``Backend.log_tail``."""
        return self._backend.log_tail(remote_id)

    def close(self) -> bool:
        """Gives all remotes back."""
        self._backend.close()
        return True


def store_of_this_node(root: Path) -> DirectoryStore:
    """Returns a Store whose containers are in a directory named as this Ray node."""
    directory = root / ray.get_runtime_context().get_node_id()
    directory.mkdir(exist_ok=True)
    return DirectoryStore(directory)


def pid_of(actor: Any) -> int:
    """Returns the process of an actor."""
    return ray.get(actor.__ray_call__.remote(_own_pid), timeout=60)


def kill_9(actor: Any) -> int:
    """Kills the process of an actor; Ray restarts it where it may. Returns what its pid was."""
    pid = pid_of(actor)
    os.kill(pid, signal.SIGKILL)
    return pid


def is_running(pid: int) -> bool:
    """Returns whether a process is there and not just waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _own_pid(_: object) -> int:
    return os.getpid()
