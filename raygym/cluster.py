"""``raygym cluster``: starts a Ray cluster from a file of ``ray up``, looks at it and ends it.

A thin layer over ``ray up``, ``ray exec`` and ``ray down`` that says what they leave unsaid:
``ray up`` ends well although no worker ever comes, its second autoscaler starts none on machines
of one's own, and ``ray down`` leaves Ray running there.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raygym.errors import ConfigError, MissingDependency, RaygymError

DEFAULT_FILE = Path("cluster.yaml")
TOKEN_PATH = "~/.ray/auth_token"  # noqa: S105  a path, no token
AUTOSCALER_V2 = "RAY_UP_enable_autoscaler_v2"
_UP_S = 3600.0
_EXEC_S = 120.0
_DOWN_S = 900.0
_POLL_S = 3.0
_MOST_FAILED_LOOKS = 5
"""So many looks at the head may fail in a row before a wait for nodes ends."""
_LOOK = "RAY_AUTH_MODE=token raygym cluster status --json"
_STOPPED = "raygym-stopped"
_LAST_LINES = 15


class ClusterError(RaygymError):
    """A cluster did not come up, did not answer or did not go down."""


@dataclass(frozen=True, kw_only=True)
class ClusterFile:
    """What matters here of a file that ``ray up`` reads."""

    path: Path
    name: str
    provider: str
    """``aws``, ``local`` or another that Ray knows."""
    nodes: int
    """Number of nodes it asks for at once, the head among them."""
    own_machines: tuple[str, ...] = ()
    """Addresses of machines of one's own, the head first; none for other providers."""
    ssh_user: str = ""
    token_source: Path | None = None
    """Where the token of the cluster is kept here, if the file carries one."""

    @property
    def is_local(self) -> bool:
        """Whether its nodes are machines of one's own."""
        return self.provider == "local"


Run = Callable[..., subprocess.CompletedProcess[str]]
"""Runs ``ray`` with arguments: ``run(arguments, environment, timeout_s, is_shown)``."""


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Adds the actions of ``raygym cluster``."""
    actions = verb.add_subparsers(dest="action", required=True, metavar="ACTION")
    action = actions.add_parser("up", help="start it and wait until its nodes are there")
    action.add_argument("file", type=Path, nargs="?", default=DEFAULT_FILE)
    action.add_argument(
        "--timeout", type=float, default=900.0, metavar="SECONDS", help="longest wait for nodes"
    )
    action = actions.add_parser("status", help="slots that run and wait, by node")
    action.add_argument(
        "file", type=Path, nargs="?", help="asks the head; without it: the cluster of this machine"
    )
    action.add_argument("--json", action="store_true", help="for programs")
    action = actions.add_parser("down", help="end it: its nodes go, or Ray on them")
    action.add_argument("file", type=Path, nargs="?", default=DEFAULT_FILE)


def main(arguments: argparse.Namespace) -> int:
    """Does one action; returns the exit status.

    Raises:
        ConfigError: The file cannot be read or is no cluster's.
        MissingDependency: Ray is not installed.
        ClusterError: It did not come up, did not answer or did not go down.
    """
    if arguments.action == "status" and arguments.file is None:
        return _print_status_here(as_json=arguments.json)
    cluster = Cluster(read(arguments.file))
    if arguments.action == "up":
        cluster.up(timeout_s=arguments.timeout)
    elif arguments.action == "down":
        cluster.down()
    elif arguments.json:
        print(json.dumps(cluster.look()))
    else:
        print(cluster.look()["text"])
    return 0


def read(path: Path) -> ClusterFile:
    """Reads a file that ``ray up`` takes.

    Raises:
        ConfigError: It cannot be read, or is no cluster's.
    """
    try:
        held = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path}: no cluster file can be read there ({error}); name one, such as cluster.yaml "
            "at the top of raygym's sources"
        ) from error
    if not isinstance(held, dict) or not isinstance(held.get("provider"), dict):
        raise ConfigError(f"{path}: expected a file of `ray up` with a provider in it")
    provider = held["provider"]
    workers = tuple(provider.get("worker_ips") or ())
    if provider.get("type") == "local":
        wanted = min(held.get("min_workers", len(workers)), len(workers))
    else:
        types = held.get("available_node_types") or {}
        wanted = sum(
            kind.get("min_workers", 0)
            for name, kind in types.items()
            if name != held.get("head_node_type")
        )
    mounts: Mapping[str, str] = held.get("file_mounts") or {}
    token = mounts.get(TOKEN_PATH)
    return ClusterFile(
        path=path,
        name=str(held.get("cluster_name", "default")),
        provider=str(provider.get("type")),
        nodes=1 + wanted,
        own_machines=(str(provider["head_ip"]), *workers) if "head_ip" in provider else (),
        ssh_user=str((held.get("auth") or {}).get("ssh_user", "ubuntu")),
        token_source=Path(token).expanduser() if token else None,
    )


def run_ray(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    is_shown: bool,
) -> subprocess.CompletedProcess[str]:
    """Runs the ``ray`` of this interpreter; its output is shown or returned.

    Raises:
        MissingDependency: It is not installed.
        ClusterError: It took too long, and was ended.
    """
    program = Path(sys.executable).parent / "ray"
    output = None if is_shown else subprocess.PIPE
    try:
        return subprocess.run(
            [str(program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if is_shown else subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, **environment},
        )
    except FileNotFoundError as error:
        raise MissingDependency(
            f"{program} is not there: a cluster takes Ray; pip install 'raygym[train]'"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"`ray {arguments[0]}` did not end within {timeout_s:.0f} s and was ended; are the "
            "machines reachable by ssh?"
        ) from error


class Cluster:
    """One cluster, as its file describes it.

    Args:
        file: The description.
        run: Runs ``ray``.
        say: Tells a person; None prints.
        clock: Seconds, steady.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        file: ClusterFile,
        *,
        run: Run = run_ray,
        say: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._file = file
        self._run = run
        self._say = say or functools.partial(print, flush=True)
        self._clock = clock
        self._sleep = sleep

    def up(self, *, timeout_s: float) -> None:
        """Starts it, or brings it up to date, and waits until its nodes are there.

        Args:
            timeout_s: Longest wait for the nodes, after ``ray up`` has ended.

        Raises:
            ConfigError: The token that the file carries is not there.
            ClusterError: It did not come up.
        """
        file = self._file
        self._check_token()
        if file.is_local:
            self._say(
                f"machines of one's own: Ray starts with its first autoscaler ({AUTOSCALER_V2}=0), "
                "because its second one starts no workers on them"
            )
        done = self._ray(["up", "-y", "--no-config-cache", str(file.path)], timeout_s=_UP_S)
        if done.returncode != 0:
            raise ClusterError(
                f"{file.name}: `ray up` failed with status {done.returncode}; what it said "
                "stands above"
            )
        self._say(f"the head is up; waiting for {file.nodes - 1} more nodes")
        self._say(self._wait_for_nodes(timeout_s)["text"])

    def look(self) -> dict[str, Any]:
        """Asks the head; returns what ``Placement.as_json`` does, and ``text`` for a person.

        Raises:
            ClusterError: No answer.
        """
        done = self._exec(_LOOK)
        found = re.findall(r'^\{"text".*\}$', done.stdout, re.MULTILINE)
        if not found:
            raise ClusterError(
                f"{self._file.name}: its head does not say how it is; is it up? "
                f"(`raygym cluster up {self._file.path}`)\n{_end_of(done.stdout)}"
            )
        placement: dict[str, Any] = json.loads(found[-1])
        return placement

    def down(self) -> None:
        """Ends it.

        Raises:
            ClusterError: Something may still run.
        """
        file = self._file
        unreached: list[str] = []
        if file.is_local:
            self._say("machines of one's own: Ray is stopped on each, the machines stay on")
            said = self._exec(_stop_all(file)).stdout
            stopped = re.findall(rf"^{_STOPPED} (\S+)$", said, re.MULTILINE)
            unreached = [ip for ip in file.own_machines if ip not in stopped]
        done = self._ray(["down", "-y", str(file.path)], timeout_s=_DOWN_S)
        if done.returncode != 0:
            raise ClusterError(
                f"{file.name}: `ray down` failed with status {done.returncode}; look for what is "
                "still there (and costs money) at your provider"
            )
        if unreached:
            raise ClusterError(
                f"{file.name}: whether Ray ended is not known of {', '.join(unreached)}: not "
                "reached. Without its head it ends by itself in a minute or so; or run `ray stop` "
                "there"
            )
        self._say(f"{file.name} is down")

    def _wait_for_nodes(self, timeout_s: float) -> dict[str, Any]:
        deadline_s = self._clock() + timeout_s
        seen, failed = -1, 0
        problem = ""
        while True:
            try:
                placement = self.look()
            except ClusterError as error:
                problem, failed = error.message, failed + 1
            else:
                failed = 0
                if len(placement["nodes"]) != seen:
                    seen = len(placement["nodes"])
                    self._say(f"{seen} of {self._file.nodes} nodes are there")
                if seen >= self._file.nodes:
                    return placement
            if failed >= _MOST_FAILED_LOOKS:
                raise ClusterError(problem)
            if self._clock() > deadline_s:
                raise self._too_few(max(seen, 0), timeout_s)
            self._sleep(_POLL_S)

    def _too_few(self, seen: int, timeout_s: float) -> ClusterError:
        log = self._exec(
            "cat /tmp/ray/session_latest/logs/monitor.err; "
            "tail -n 15 /tmp/ray/session_latest/logs/monitor.out"
        )
        return ClusterError(
            f"{self._file.name}: {seen} of {self._file.nodes} nodes came within {timeout_s:.0f} s. "
            "Ray goes on trying; `raygym cluster status` tells when they are there. Its autoscaler "
            f"said last:\n{_end_of(log.stdout)}"
        )

    def _check_token(self) -> None:
        source = self._file.token_source
        if source is None or source.exists():
            return
        if source != Path(TOKEN_PATH).expanduser():
            raise ConfigError(
                f"{self._file.path}: the token is to come from {source}, where there is none; put "
                "one there (`ray get-auth-token --generate` makes one)"
            )
        done = self._ray(["get-auth-token", "--generate"], timeout_s=_EXEC_S, is_shown=False)
        if done.returncode != 0 or not source.exists():
            raise ClusterError(f"{source}: no token could be made: {_end_of(done.stdout)}")
        source.chmod(0o600)
        self._say(f"made a token: {source}; who has it may run code on the cluster")

    def _exec(self, command: str) -> subprocess.CompletedProcess[str]:
        """Runs a line of shell on the head; what it prints comes without a terminal's codes."""
        words = ["exec", str(self._file.path), command]
        done = self._ray(words, timeout_s=_EXEC_S, is_shown=False)
        done.stdout = re.sub(r"\x1b\[[0-9;]*m|\r", "", done.stdout)
        return done

    def _ray(
        self, arguments: Sequence[str], *, timeout_s: float, is_shown: bool = True
    ) -> subprocess.CompletedProcess[str]:
        environment = {AUTOSCALER_V2: "0"} if self._file.is_local else {}
        return self._run(arguments, environment=environment, timeout_s=timeout_s, is_shown=is_shown)


def _print_status_here(*, as_json: bool) -> int:
    try:
        import ray
    except ImportError as error:
        raise MissingDependency(
            "a cluster takes Ray, which is not installed; pip install 'raygym[train]'"
        ) from error
    from raygym.service import placement

    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ClusterError(
            f"no Ray cluster answers at RAY_ADDRESS={address}: {_end_of(str(error))}. One that "
            "asks for a token needs RAY_AUTH_MODE=token here, too; from elsewhere name the "
            "cluster's file: raygym cluster status cluster.yaml"
        ) from error
    try:
        seen = placement.look(ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()
    text = placement.table(seen)
    print(json.dumps({"text": text, **seen.as_json()}) if as_json else text)
    return 0


def _stop_all(file: ClusterFile) -> str:
    """Returns what stops Ray on the head, and so its autoscaler, and then on each worker.

    The head has the key and reaches the workers; whoever calls may not. Ray's note of which
    workers run goes, too: the next start would wait for them.
    """
    options = (
        "-i ~/ray_bootstrap_key.pem -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
        "-o BatchMode=yes -o ConnectTimeout=10 -o LogLevel=ERROR"
    )
    head, *workers = file.own_machines
    remote = shlex.quote("bash --login -c 'ray stop'")
    stops = [f"ray stop && echo {_STOPPED} {shlex.quote(head)}"]
    stops += [
        f"{{ timeout 60 ssh {options} {shlex.quote(f'{file.ssh_user}@{ip}')} {remote} "
        f"&& echo {_STOPPED} {shlex.quote(ip)}; }} &"
        for ip in workers
    ]
    note = shlex.quote(f"/tmp/ray/cluster-{file.name}.state")  # noqa: S108  Ray's own
    return "\n".join([*stops, "wait", f"rm -f {note}"])


def _end_of(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines()]
    said = [line for line in lines if line and not re.search(r"INFO|Full command is", line)]
    return "\n".join(said[-_LAST_LINES:])
