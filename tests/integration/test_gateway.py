"""Gateways as actors of Ray, with remotes that are processes and clients that are strangers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

import raygym
from raygym.errors import ConfigError
from raygym.gateway.config import GatewayConfig, LeaseLimits
from raygym.gateway.serving import GatewayUnreachable, find_gateways, start_gateways
from raygym.gateway.status import GatewayStatus
from raygym.gateway.tenants import Tenants
from tests.support.gateway_clients import is_fickle, play
from tests.support.gateway_remotes import ThreadBackend
from tests.support.peers import ROOT, make_peers, run_peer
from tests.support.small_ray import small_ray

ENV_ID = "gym-core.CartPole-v1"
PATIENCE_S = 60.0
CLIENTS, SLOTS, MAX_WAITING = 500, 20, 440


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with small_ray():
        yield


def node() -> str:
    return str(ray.get_runtime_context().get_node_id())


class Served:
    """A gateway on this node.

    Args:
        backends: Where its remotes come from; None for processes.
        limits: Of its leases.
        options: More of its configuration.
    """

    def __init__(self, backends: Any = None, *, limits: LeaseLimits, **options: Any) -> None:
        config = GatewayConfig(
            tenants=Tenants(is_open=True), backend="process", limits=limits, **options
        )
        (self.gateway,) = start_gateways(config, [node()], is_left=False, backends=backends)
        self.port = self.gateway.served().listening.grpc.port
        self.address = f"127.0.0.1:{self.port}"

    def status(self) -> GatewayStatus:
        return self.gateway.status()

    def until(self, is_so: Callable[[GatewayStatus], bool]) -> GatewayStatus:
        """Waits until its status is as it should be, and returns it."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            # It may be coming back.
            with contextlib.suppress(GatewayUnreachable):
                if is_so(status := self.status()):
                    return status
                assert time.monotonic() < deadline_s, status
            assert time.monotonic() < deadline_s
            time.sleep(0.05)


@contextlib.contextmanager
def served(*arguments: Any, **options: Any) -> Iterator[Served]:
    it = Served(*arguments, **options)
    try:
        yield it
    finally:
        it.gateway.stop()


@pytest.fixture(scope="class")
def gateway() -> Iterator[Served]:
    """Two slots, remotes that are processes. A node has one gateway at a time."""
    limits = LeaseLimits(slots=2, queue_timeout_s=PATIENCE_S)
    with served(limits=limits, env_ids=(ENV_ID, "gym-core.*")) as it:
        yield it


def is_empty(status: GatewayStatus) -> bool:
    return not status.leases and not status.used and not status.streams.open


@pytest.fixture(scope="module")
def _peers() -> None:
    make_peers()


@pytest.mark.usefixtures("_peers")
def test_all_40_tests_of_dm_env_rpcs_compliance_suite_pass(
    tell: Callable[[str], None],
) -> None:
    with served(ThreadBackend, limits=LeaseLimits(slots=1), env_ids=(ENV_ID,)) as it:
        (result,) = run_peer("dm_env_rpc", "compliance.py", it.address)
        it.until(is_empty)
    passed = result["run"] - len(result["broken"])
    tell(f"dm_env_rpc compliance through a gateway: {passed}/{result['run']}")
    assert result == {"run": 40, "broken": [], "skipped": 0}


@pytest.mark.usefixtures("_peers")
class TestProcesses:
    """Remotes that are processes, and clients of all kinds."""

    def test_remote_gyms_stock_client_plays_as_at_home(self, gateway: Served) -> None:
        args = {"entrypoint": "FrozenLake-v1", "entrypoint_kwargs": {"is_slippery": False}}
        moves = ["reset", 1, 1, 2, 2, 1, 2, "reset", 1, 2]
        spaces, *seen = run_peer(
            "remote_gym",
            "remote_gym_client.py",
            str(gateway.port),
            json.dumps(args),
            json.dumps(moves),
        )
        assert spaces["actions"] == "Discrete(4)"
        steps = [told for told in seen if "reward" in told]
        assert [told["reward"] for told in steps] == [0, 0, 0, 0, 0, 1, 0, 0]
        assert [told["terminated"] for told in steps] == [False] * 5 + [True, False, True]
        gateway.until(is_empty)

    def test_what_is_not_there_is_said_to_it(self, gateway: Served) -> None:
        process = subprocess.Popen(
            [
                ROOT / ".peers/remote_gym/bin/python",
                ROOT / "tests/peers/remote_gym_client.py",
                str(gateway.port),
                json.dumps({"entrypoint": "Nonsense-v7"}),
                "[]",
            ],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "0"},
        )
        assert process.stderr is not None
        with process.stderr as said:
            assert any("unknown environment gym-core.Nonsense-v7" in line for line in said)
            # It leaves its stream open, and waits for its end.
            process.kill()
            process.wait(10)
        gateway.until(is_empty)

    def test_a_remote_that_dies_cuts_the_episode_and_the_next_reset_has_another(
        self, gateway: Served
    ) -> None:
        env = raygym.make(ENV_ID, remotes=f"grpc://{gateway.address}", client_id="steady")
        with contextlib.closing(env):
            env.reset(seed=1)
            (row,) = gateway.status().leases
            assert (row.client_id, row.env_id) == ("steady", ENV_ID)
            os.kill(remote_of(gateway), signal.SIGKILL)
            gateway.until(lambda status: status.remotes_lost == 1)
            _, reward, is_terminated, is_truncated, info = env.step(0)
            assert (reward, is_terminated, is_truncated) == (0.0, False, True)
            assert info["outcome"] == "infra_failure"
            env.reset(seed=1)
            assert env.step(0)[1] == 1.0
            (after,) = gateway.status().leases
            assert after.remote_id != row.remote_id
        gateway.until(is_empty)

    def test_a_second_gateway_on_a_node_is_refused_and_the_first_goes_on(
        self, gateway: Served
    ) -> None:
        with pytest.raises(ConfigError, match="runs already on node"):
            Served(limits=LeaseLimits())
        assert [found.node for found in find_gateways()] == [node()]
        assert gateway.status().slots == 2


class TestClientsThatDie:
    def test_one_that_is_killed_holding_a_lease_gives_it_to_the_next(self) -> None:
        limits = LeaseLimits(slots=1, queue_timeout_s=PATIENCE_S)
        with served(limits=limits) as it, contextlib.ExitStack() as stack:
            first, second = (player(stack, it.address, name) for name in ("first", "second"))
            it.until(lambda status: len(status.leases) == 1 and len(status.waiting) == 1)
            held = it.status().leases[0].client_id
            holder, waiter = (first, second) if held == "first" else (second, first)
            assert holder.stdout is not None
            assert waiter.stdout is not None
            assert holder.stdout.readline() == "plays\n"
            killed_s = time.monotonic()
            holder.kill()
            status = it.until(lambda s: [r.client_id for r in s.leases] not in ([held], []))
            assert time.monotonic() - killed_s < 10
            assert waiter.stdout.readline() == "plays\n"
            assert (status.given_back, status.waiting) == (1, [])
            waiter.kill()
            it.until(is_empty)

    def test_one_that_is_killed_in_the_queue_leaves_it(self) -> None:
        limits = LeaseLimits(slots=1, queue_timeout_s=PATIENCE_S)
        with served(limits=limits) as it, contextlib.ExitStack() as stack:
            first = player(stack, it.address, "first")
            assert first.stdout is not None
            assert first.stdout.readline() == "plays\n"
            second = player(stack, it.address, "second")
            it.until(lambda status: len(status.waiting) == 1)
            second.kill()
            status = it.until(lambda status: not status.waiting)
            assert status.gone_waiting == 1
            assert [row.client_id for row in status.leases] == ["first"]


def player(stack: contextlib.ExitStack, address: str, client_id: str) -> subprocess.Popen[str]:
    """Starts a client that plays until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.gateway_player", address, client_id],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    stack.callback(process.stdout.close)
    stack.callback(process.wait, 10)
    stack.callback(process.kill)
    return process


def remote_of(it: Served) -> int:
    """Returns the id of the process of the gateway's one remote of CartPole."""
    found = subprocess.run(
        ["pgrep", "-P", str(it.gateway.served().pid), "-f", f"mode lockstep --env {ENV_ID}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout)


def free_port() -> int:
    """Returns a port that is free now, for what must come back to the same."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_500_clients_for_20_slots_are_served_in_order_or_told_why_not(
    tell: Callable[[str], None],
) -> None:
    limits = LeaseLimits(slots=SLOTS, max_waiting=MAX_WAITING, queue_timeout_s=PATIENCE_S)

    async def crowd(it: Served) -> None:
        opened = asyncio.Event()
        began_s = time.monotonic()
        playing = asyncio.create_task(play(it.address, CLIENTS, 25, opened))
        status = await asyncio.to_thread(
            it.until,
            lambda s: len(s.leases) + len(s.waiting) + sum(s.refused.values()) == CLIENTS,
        )
        assert len(status.leases) == SLOTS
        queue = [int(row.client_id.removeprefix("client-")) for row in status.waiting]
        first = {int(row.client_id.removeprefix("client-")) for row in status.leases}
        opened.set()
        seen = await playing
        took_s = time.monotonic() - began_s
        # Of those that were before one in the queue, none but the others in a slot may be later.
        assert set(seen.made[:SLOTS]) == first
        for rank, number in enumerate(seen.made[SLOTS:]):
            assert queue.index(number) < rank + SLOTS
        assert sorted(seen.made) == sorted({*queue, *first})
        assert len(seen.refusals) == CLIENTS - SLOTS - MAX_WAITING
        assert all("440 wait already" in why for why in seen.refusals.values())
        assert seen.rewards == {n: 3.0 for n in seen.made if not is_fickle(n)}
        tell(
            f"{len(seen.made)} of {CLIENTS} clients served by {SLOTS} slots in order, "
            f"{len(seen.refusals)} told why not, in {took_s:.1f} s"
        )

    with served(ThreadBackend, limits=limits) as it:
        asyncio.run(crowd(it))
        status = it.until(is_empty)
        assert (status.granted, status.given_back) == (SLOTS + MAX_WAITING,) * 2
        assert (status.remotes_started, status.remotes_lost) == (SLOTS, 0)
        assert (status.waiting, status.streams.opened) == ([], CLIENTS)


def test_a_gateway_that_is_killed_comes_back_where_it_was() -> None:
    limits = LeaseLimits(slots=1, queue_timeout_s=PATIENCE_S)
    with served(ThreadBackend, limits=limits, port=free_port()) as it:
        env = raygym.make(ENV_ID, remotes=f"grpc://{it.address}", client_id="steady")
        with contextlib.closing(env):
            env.reset(seed=1)
            before = it.gateway.served()
            os.kill(before.pid, signal.SIGKILL)
            assert env.step(0)[4]["outcome"] == "infra_failure"
            it.until(lambda status: not status.leases)
            env.reset(seed=1)
            assert env.step(0)[1] == 1.0
            assert it.gateway.served().pid != before.pid


class TestCommand:
    """``raygym serve``, as a program."""

    @staticmethod
    def command(*given: str) -> list[str]:
        return [str(Path(sys.executable).with_name("raygym")), "serve", *given]

    def test_it_serves_until_ctrl_c_and_leaves_nothing(self) -> None:
        given = ("--port", "0", "--http-port", "0", "--slots", "1", "--backend", "process")
        environment = {n: v for n, v in os.environ.items() if n != "RAY_ADDRESS"}
        with subprocess.Popen(
            self.command(*given),
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            grpc, http = re.findall(r"(?:grpc|http)://([\d.:]+)", process.stdout.readline())
            assert process.stdout.readline() == "Ctrl-C ends it\n"
            with urllib.request.urlopen(f"http://{http}/healthz", timeout=60) as answer:
                assert answer.read() == b"ok\n"
            env = raygym.make(ENV_ID, remotes=f"grpc://{grpc}")
            with contextlib.closing(env):
                env.reset(seed=1)
                assert env.step(0)[1] == 1.0
                # As a terminal does it: to everything that the command started.
                os.killpg(process.pid, signal.SIGINT)
                assert process.wait(PATIENCE_S) == 0
                assert env.step(0)[4]["outcome"] == "infra_failure"
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", int(grpc.rpartition(":")[2])), 5)

    def test_what_was_left_running_is_found_and_ended_by_another(self) -> None:
        address = ray.get_runtime_context().gcs_address
        environment = os.environ | {"RAY_ADDRESS": address}

        def run(*given: str) -> str:
            return subprocess.run(
                self.command(*given),
                env=environment,
                check=True,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            ).stdout

        started = run("--detach", "--port", "0", "--http-port", "-1", "--backend", "process")
        grpc = re.search(r"grpc://([\d.:]+)", started)
        assert grpc is not None
        assert "raygym serve --stop" in started
        env = raygym.make(ENV_ID, remotes=f"grpc://{grpc[1]}")
        with contextlib.closing(env):
            env.reset(seed=1)
            (status,) = json.loads(run("--status", "--json")).values()
            assert [row["env_id"] for row in status["leases"]] == [ENV_ID]
            assert run("--stop") == "ended 1 gateways\n"
            assert env.step(0)[4]["outcome"] == "infra_failure"
        assert find_gateways() == []


@pytest.mark.timeout(420)
def test_each_node_of_a_cluster_serves() -> None:
    # What Ray's native library learned from this module's cluster stays with this process.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(ROOT / "tests/isolated/gateway_nodes.py")],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout, done.stdout
