"""A store of containers for tests: a cluster and a state directory of its own, emptied after."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from raygym.catalog import Runtime, load_catalog
from raygym.core import Remote
from raygym.remote_env.docker.engine import Engine
from raygym.remote_env.docker.store import DockerStore
from raygym.remote_env.lease_file import LeaseFile

WAIT_S = 90.0


class Containers:
    """Makes stores of one cluster, and remotes in them."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.cluster = f"test-{secrets.token_hex(4)}"
        self.engine = Engine()
        self.runtimes = dict(load_catalog().runtimes)
        self._stores: list[DockerStore] = []
        self.store = self.open()

    def open(self, **options: Any) -> DockerStore:
        """Returns one more store of the cluster."""
        given = {"state": self.state, "runtimes": self.runtimes, **options}
        self._stores.append(DockerStore(**given))
        return self._stores[-1]

    def limit(self, runtime: str, **limits: Any) -> Runtime:
        """Changes what the catalog says of a Runtime, for stores opened from now on."""
        self.runtimes[runtime] = replace(self.runtimes[runtime], **limits)
        return self.runtimes[runtime]

    def lease(self, runtime: str = "gym-core", *, lasts_s: float = 120.0) -> LeaseFile:
        """Returns a lease from now on."""
        expires_s = time.time() + lasts_s
        return LeaseFile(token=1, client_id="tester", runtime=runtime, expires_unix_s=expires_s)

    def new_id(self) -> str:
        return f"r-{secrets.token_hex(5)}"

    def create(
        self,
        remote_id: str | None = None,
        runtime: str = "gym-core",
        *,
        variant: Sequence[str] = ("--mode", "lockstep"),
        store: DockerStore | None = None,
        lasts_s: float = 120.0,
    ) -> Remote:
        """Makes a remote."""
        return (store or self.store).create(
            remote_id or self.new_id(),
            runtime,
            client_id="tester",
            variant=variant,
            cluster=self.cluster,
            lease=self.lease(runtime, lasts_s=lasts_s),
        )

    def container(self, remote_id: str) -> Any:
        """Returns the SDK's container."""
        return self.engine.ask("finding", lambda c: c.containers.get(f"raygym-{remote_id}"))

    def is_there(self, remote_id: str) -> bool:
        return self.engine.inspect(f"raygym-{remote_id}") is not None

    def await_gone(self, remote_id: str, *, timeout_s: float = WAIT_S) -> float:
        """Waits until the engine has no such container; returns when that was, in unix time."""
        deadline_s = time.monotonic() + timeout_s
        while self.is_there(remote_id):
            assert time.monotonic() < deadline_s, f"{remote_id} is still there"
            time.sleep(0.05)
        return time.time()

    def close(self) -> None:
        """Removes all of the cluster."""
        for found in self.store.survey(self.cluster):
            self.store.remove(found.remote_id)
        for store in self._stores:
            store.close()
        self.engine.close()


@contextmanager
def containers() -> Iterator[Containers]:
    """Yields containers in a state directory whose path is short."""
    state = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
    made = Containers(state)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(state, ignore_errors=True)
