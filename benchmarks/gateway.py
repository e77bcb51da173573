"""A round trip through a gateway beside one straight to the remote, in the same run.

python benchmarks/gateway.py [--rounds 7] [--clients 8]

Rounds of both take turns, and each figure is the median of its rounds, so that what else the
machine does meets both alike. What counts is the ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Remotes and the gateway's actor look for ``gateway_envs`` there.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
)
sys.path.insert(0, str(HERE))

import ray  # noqa: E402

import raygym  # noqa: E402
from raygym.core import Endpoint  # noqa: E402
from raygym.gateway.config import GatewayConfig, LeaseLimits  # noqa: E402
from raygym.gateway.serving import start_gateways  # noqa: E402
from raygym.gateway.tenants import Tenants  # noqa: E402
from raygym.remote_env.process_backend import ProcessBackend  # noqa: E402
from raygym.remote_env.rpc.connect import Access  # noqa: E402
from raygym.remote_env.rpc.dm_env import DmEnv  # noqa: E402
from raygym.remote_env.rpc.dm_session import METHOD as DM_METHOD  # noqa: E402
from raygym.service.ray_running import ray_running  # noqa: E402

CARTPOLE, PICTURES = "gym-core.CartPole-v1", "gym-core.gateway_envs:Pictures-v0"
ROUND_S = 0.3
"""About how long a round takes."""

Open = Callable[[str], Any]
"""Opens an environment at an address of gRPC."""


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    what: str
    env_id: str
    open_straight: Open
    open_through: Open


def by_grpc(address: str, env_id: str = "") -> Any:
    """Opens an environment that speaks raygym.v1 over gRPC, without any shared memory."""
    return raygym.RemoteEnv(
        address, env_id=env_id, uses_local_socket=False, uses_shared_memory=False
    )


def by_socket(address: str) -> Any:
    """Opens one in the cheapest way that there is on one machine."""
    return raygym.RemoteEnv(address)


def by_dm_env_rpc(address: str) -> Any:
    """Opens one that speaks dm_env_rpc."""
    where = address.partition("://")[2]
    if where.startswith("/"):
        endpoint = Endpoint(path=where)
    else:
        host, _, port = where.rpartition(":")
        endpoint = Endpoint(host=host, port=int(port))
    access = Access(endpoint=endpoint)
    return DmEnv(lambda: access.channel(method=DM_METHOD), name=address)


def cases() -> list[Case]:
    """Returns the rows."""
    return [
        Case("CartPole, raygym.v1", CARTPOLE, by_grpc, lambda a: by_grpc(a, CARTPOLE)),
        Case("the same, straight by socket", CARTPOLE, by_socket, lambda a: by_grpc(a, CARTPOLE)),
        Case("210x160x3 uint8, raygym.v1", PICTURES, by_grpc, lambda a: by_grpc(a, PICTURES)),
        Case("CartPole, dm_env_rpc", CARTPOLE, by_dm_env_rpc, by_dm_env_rpc),
    ]


@contextlib.contextmanager
def straight(env_id: str) -> Iterator[str]:
    """Starts a remote as a gateway does; yields its address."""
    backend = ProcessBackend(arguments=("--mode", "lockstep", "--env", env_id))
    try:
        remote = backend.start("gym-core", client_id="benchmark")
        assert remote.rpc is not None
        yield f"grpc+unix://{remote.rpc.path}"
    finally:
        backend.close()


def time_steps(env: Any, count: int) -> float:
    """Returns the seconds that so many steps take, resets left out."""
    took_s = 0.0
    for _ in range(count):
        began_s = time.perf_counter()
        _, _, is_terminated, is_truncated, _ = env.step(0)
        took_s += time.perf_counter() - began_s
        if is_terminated or is_truncated:
            env.reset()
    return took_s


def compare(case: Case, address: str, rounds: int) -> list[str]:
    """Returns the cells of a row."""
    with (
        straight(case.env_id) as near,
        contextlib.closing(case.open_straight(near)) as direct,
        contextlib.closing(case.open_through(address)) as through,
    ):
        per_step_s: dict[str, list[float]] = {"straight": [], "through": []}
        envs = {"straight": direct, "through": through}
        counts = {}
        for name, env in envs.items():
            env.reset(seed=1)
            time_steps(env, 50)
            counts[name] = max(10, int(ROUND_S / (time_steps(env, 50) / 50)))
        for _ in range(rounds):
            for name, env in envs.items():
                per_step_s[name].append(time_steps(env, counts[name]) / counts[name])
    near_us, far_us = (statistics.median(per_step_s[name]) * 1e6 for name in envs)
    return [case.what, f"{near_us:.0f}", f"{far_us:.0f}", f"{far_us / near_us:.2f}"]


def together(address: str, clients: int) -> float:
    """Returns how many steps a second that many clients do together, one thread each."""
    envs = [by_grpc(address, CARTPOLE) for _ in range(clients)]
    try:
        for env in envs:
            env.reset(seed=1)
        counts = [0] * clients
        until_s = time.monotonic() + 10 * ROUND_S

        def play(number: int) -> None:
            while time.monotonic() < until_s:
                time_steps(envs[number], 10)
                counts[number] += 10

        threads = [threading.Thread(target=play, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (10 * ROUND_S)
    finally:
        for env in envs:
            env.close()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", type=int, default=8)
    given = parser.parse_args()
    config = GatewayConfig(
        tenants=Tenants(is_open=True),
        env_ids=(CARTPOLE, PICTURES),
        backend="process",
        limits=LeaseLimits(slots=max(2, given.clients)),
    )
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores\n")
    with ray_running(1, has_dashboard=False):
        node = ray.get_runtime_context().get_node_id()
        (gateway,) = start_gateways(config, [node], is_left=False)
        try:
            address = f"grpc://{gateway.served().listening.grpc}"
            print("| one step | straight, us | through a gateway, us | ratio |")
            print("|---|---|---|---|")
            for case in cases():
                print("| " + " | ".join(compare(case, address, given.rounds)) + " |", flush=True)
            rate = together(address, given.clients)
            print(f"\n{given.clients} clients on threads of one process: {rate:.0f} steps/s")
        finally:
            gateway.stop()


if __name__ == "__main__":
    main()
