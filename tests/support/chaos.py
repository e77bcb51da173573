"""A Ray, a driver, players and their containers, of which any can be killed and is started again.

Everything is a process below the test's, and knows one state directory and one cluster name.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from docker.client import DockerClient
from docker.errors import APIError

from tests.support.chaos_cluster import ADDRESS_FILE
from tests.support.chaos_driver import LEASES_FILE, ROWS_FILE
from tests.support.chaos_player import STOP_FILE
from tests.support.process_tree import all_end, command, descendants

WAIT_S = 90.0
"""Longest wait for anything; all is well long before."""

_HERE = Path(__file__).parents[2]
_PR_SET_CHILD_SUBREAPER = 36
_SHARED_MEMORY = Path("/dev/shm")


class Chaos:
    """What is played with, and killed.

    Args:
        engine: A client of the engine.
        cluster: The label of the containers.
        root: A directory of its own, with a short path.
        state: Where the remotes' directories are.
    """

    def __init__(self, engine: DockerClient, cluster: str, root: Path, state: Path) -> None:
        self.engine = engine
        self.cluster = cluster
        self.root = root
        self.state = state
        self.temporary = root / "tmp"
        """Where all the processes make their temporary files, but not Ray's own."""
        self.log = root / "log"
        self.containers_seen: set[str] = set()
        """Ids of all containers that were found when somebody looked."""
        self._before = descendants(os.getpid())
        self._ray: subprocess.Popen[bytes] | None = None
        self._driver: subprocess.Popen[bytes] | None = None
        self._token = secrets.token_hex(32)
        self.temporary.mkdir()

    # What runs

    def start(self) -> None:
        """Starts Ray and the driver, each where it does not run."""
        if self._ray is None:
            address = self.root / ADDRESS_FILE
            address.unlink(missing_ok=True)
            self._ray = self._run("tests.support.chaos_cluster")
            eventually(lambda: self._ray_listens(address), "Ray listens")
        if self._driver is None:
            self._driver = self._run("tests.support.chaos_driver")

    def stop_players(self) -> None:
        """Tells the players to stop, and waits until they have and the driver has ended."""
        (self.root / STOP_FILE).touch()
        assert self._driver is not None
        assert self._driver.wait(WAIT_S) == 0
        self._note_end({self._driver.pid})

    def stop_ray(self) -> None:
        """Ends Ray as it wants to be ended, and waits until all of it has."""
        assert self._ray is not None
        self._ray.communicate(timeout=WAIT_S)
        self._note_end({self._ray.pid})
        eventually(lambda: not self.processes(), "no process is left")

    def must_run(self) -> None:
        """Raises where the driver or Ray have ended of themselves."""
        for process in (self._ray, self._driver):
            assert process is not None
            assert process.poll() is None, f"{process.args} ended: {process.returncode}"

    def processes(self) -> set[int]:
        """Returns all processes that were started here, but those in containers."""
        return descendants(os.getpid()) - self._before

    def lease_for(self, *, ttl_s: float, keep_s: float) -> None:
        """Says how long the leases of players that are spawned from now on last."""
        (self.root / LEASES_FILE).write_text(json.dumps({"ttl_s": ttl_s, "keep_s": keep_s}))

    # Who can be killed

    def kill(self, kind: str, client_id: str) -> None:
        """Kills with signal 9; returns when the victims have ended.

        Args:
            kind: A key of ``KINDS``.
            client_id: Whose EnvActor, container or browser.
        """
        victims = KINDS[kind](self, client_id)
        # A container that has ended has the pid 0, which would mean this process.
        assert victims, f"no {kind} of {client_id} runs"
        assert all(victim > 1 for victim in victims), f"the {kind} of {client_id} has ended"
        while victims:
            for victim in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            assert all_end(victims, timeout_s=WAIT_S), victims
            self._note_end(victims)
            victims = self.everything() if kind == "Ray" else set()

    def driver(self, client_id: str = "") -> set[int]:
        """Returns the process of the driver."""
        return set() if self._driver is None else {self._driver.pid}

    def env_actor(self, client_id: str) -> set[int]:
        """Returns the process of a player."""
        return {self.lines(client_id)[-1]["pid"]}

    def container(self, client_id: str) -> set[int]:
        """Returns the first process of a player's container, as its host knows it."""
        return {int(self._container(client_id).attrs["State"]["Pid"])}

    def browser(self, client_id: str) -> set[int]:
        """Returns the main process of the browser in a player's container."""
        return {
            pid
            for pid in self._pids(self._container(client_id))
            if _is_titled(pid, "/usr/lib/chromium/chromium")
            and not any(word.startswith("--type=") for word in command(pid))
        }

    def registry(self, client_id: str = "") -> set[int]:
        """Returns the process of the Registry."""
        return self._actors("ray::RegistryActor")

    def keeper(self, client_id: str = "") -> set[int]:
        """Returns the process of the node's keeper."""
        return self._actors("ray::NodeKeeper")

    def everything(self, client_id: str = "") -> set[int]:
        """Returns all processes but those in containers."""
        return self.processes()

    # What there is to see

    def lines(self, client_id: str) -> list[dict[str, Any]]:
        """Returns what a player has written."""
        try:
            text = (self.root / f"{client_id}.jsonl").read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]

    def rows(self, *, since_s: float) -> list[dict[str, Any]]:
        """Returns the registry's rows, as they were after a time; none before that."""
        try:
            told = json.loads((self.root / ROWS_FILE).read_text())
        except FileNotFoundError:
            return []
        return told["rows"] if told["asked_s"] > since_s else []

    def containers(self) -> dict[str, Any]:
        """Returns the containers of this cluster by remote id, those that do not run too."""
        label = f"raygym.cluster={self.cluster}"
        found = self.engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        self.containers_seen |= {one.id for one in found}
        return {one.labels["raygym.remote"]: one for one in found}

    def directories(self) -> set[str]:
        """Returns the ids of the remotes that have a directory."""
        remotes = self.state / "remotes"
        return {path.name for path in remotes.iterdir()} if remotes.exists() else set()

    def contained_processes(self) -> set[int]:
        """Returns all processes in containers that were seen here."""
        found = set()
        for path in Path("/proc").glob("[0-9]*/cgroup"):
            with contextlib.suppress(OSError):
                text = path.read_text()
                if any(container in text for container in self.containers_seen):
                    found.add(int(path.parent.name))
        return found

    def remote_id(self, client_id: str) -> str:
        """Returns the Remote that a player plays on."""
        begun = [line for line in self.lines(client_id) if line["event"] == "begin"]
        return begun[-1]["remote_id"]

    # The end

    def clear(self) -> None:
        """Ends and removes everything that was started here, whatever became of it."""
        try:
            if self.everything():
                self.kill("Ray", "")
        finally:
            for container in self.containers().values():
                with contextlib.suppress(APIError):
                    container.remove(force=True)

    def _ray_listens(self, address: Path) -> bool:
        assert self._ray is not None
        assert self._ray.poll() is None, f"Ray did not start:\n{self.log.read_text()[-4000:]}"
        return address.exists()

    def _run(self, module: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "RAYGYM_CLUSTER": self.cluster,
            "RAYGYM_STATE": str(self.state),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(_HERE),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, str(self.root)],
                cwd=_HERE,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _note_end(self, ended: set[int]) -> None:
        """Takes note of processes that ended: those started here, and what they left behind."""
        for name in ("_ray", "_driver"):
            process = getattr(self, name)
            if process is not None and process.pid in ended:
                process.wait(WAIT_S)
                process.stdin.close()
                setattr(self, name, None)
        started = {process.pid for process in (self._ray, self._driver) if process is not None}
        for pid in _ended_children() - self._before - started:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def _container(self, client_id: str) -> Any:
        return self.containers()[self.remote_id(client_id)]

    def _pids(self, container: Any) -> list[int]:
        top = container.top()
        column = top["Titles"].index("PID")
        return [int(line[column]) for line in top["Processes"]]

    def _actors(self, title: str) -> set[int]:
        return {pid for pid in self.processes() if _is_titled(pid, title)}


KINDS: dict[str, Callable[[Chaos, str], set[int]]] = {
    "driver": Chaos.driver,
    "EnvActor": Chaos.env_actor,
    "container": Chaos.container,
    "browser": Chaos.browser,
    "Registry": Chaos.registry,
    "node keeper": Chaos.keeper,
    "Ray": Chaos.everything,
}
"""How to find the victims of each kind. ``Ray`` is all of it, with the driver and the actors."""


@contextlib.contextmanager
def chaos(engine: DockerClient, cluster: str) -> Iterator[Chaos]:
    """Yields what was not started yet; ends and removes all of it, and its directories, after."""
    root = Path(tempfile.mkdtemp(prefix="rc-", dir="/tmp"))
    shared = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else Path("/tmp")
    state = Path(tempfile.mkdtemp(prefix="rc-", dir=shared))
    with _adopting_orphans():
        made = Chaos(engine, cluster, root, state)
        try:
            yield made
        finally:
            try:
                made.clear()
            finally:
                shutil.rmtree(root, ignore_errors=True)
                shutil.rmtree(state, ignore_errors=True)


def eventually(condition: Callable[[], bool], what: str, *, within_s: float = WAIT_S) -> float:
    """Waits until something is so; returns how long that took, in seconds."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - began_s


def _is_titled(pid: int, start: str) -> bool:
    """Returns whether a process runs whose command line starts so."""
    return any(word.startswith(start) for word in command(pid)[:1])


@contextlib.contextmanager
def _adopting_orphans() -> Iterator[None]:
    """Makes this process the parent of all below it that lose theirs, so that none is missed."""
    _adopt_orphans(True)
    try:
        yield
    finally:
        _adopt_orphans(False)


def _adopt_orphans(is_adopting: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, int(is_adopting), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _ended_children() -> set[int]:
    """Returns the children of this process that ended and were not waited for."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] == "Z" and int(fields[1]) == os.getpid():
                    found.add(int(entry.name))
    return found
