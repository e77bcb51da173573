"""How long containers of remotes take: cold, warm, rebound, and twenty side by side.

Needs a Docker engine and the images: ``scripts/engine`` and ``raygym images build``.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Sequence

import raygym
from raygym.config import DockerConfig
from raygym.environments import RemoteNeeds
from raygym.environments.docker import docker_backend, docker_store
from raygym.leases.file_registry import FileRegistry
from raygym.remote_env.state import state_directory

FLASH, OTHER_FLASH = "flashgames.NeonRace-v0", "flashgames.DuskDrive-v0"
GYM = "gym-core.CartPole-v1"
RUNS, CLAIMS, SPARES, SIDE_BY_SIDE = 7, 24, 6, 20


def percentile(seconds: Sequence[float], share: float) -> float:
    """Returns a percentile of some times, the nearest that was seen."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def row(what: str, seconds: Sequence[float], aim: str) -> None:
    """Prints one line of the table."""
    p50, p99 = statistics.median(seconds), percentile(seconds, 0.99)
    print(f"| {what} | {1e3 * p50:.0f} | {1e3 * p99:.0f} | {len(seconds)} | {aim} |", flush=True)


def timed(job: Callable[[], object]) -> float:
    """Returns how long something takes, in seconds."""
    started_s = time.perf_counter()
    job()
    return time.perf_counter() - started_s


def cold(env_id: str, mode: str) -> list[float]:
    """Returns the times from nothing to the first valid observation."""
    times = []
    for _ in range(RUNS):
        started_s = time.perf_counter()
        env = raygym.make(env_id, backend="docker", mode=mode)
        try:
            env.reset()
            times.append(time.perf_counter() - started_s)
        finally:
            env.close()
    return times


def claims(env_id: str) -> list[float]:
    """Returns the times of handing spares over, each to a client that never had a remote."""
    needs = RemoteNeeds(
        runtime=env_id.partition(".")[0],
        env_id=env_id,
        mode="lockstep",
        docker=DockerConfig(warm=SPARES),
    )
    times: list[float] = []
    backend = docker_backend(needs)
    try:
        backend.remove(backend.start(needs.runtime, client_id=name()).id)
        while len(times) < CLAIMS:
            await_spares(needs.runtime)
            held = []
            for _ in range(SPARES):
                client_id, started_s = name(), time.perf_counter()
                held.append(backend.start(needs.runtime, client_id=client_id))
                times.append(time.perf_counter() - started_s)
            for remote in held:
                backend.remove(remote.id)
    finally:
        backend.close()
    return times


def await_spares(runtime: str) -> None:
    """Waits until as many spares of a runtime are ready as there are to be."""
    registry = FileRegistry(state_directory())
    deadline_s = time.monotonic() + 180
    while True:
        rows = [row for row in registry.rows() if row.runtime == runtime and not row.client_id]
        if sum(row.is_ready for row in rows) >= SPARES:
            return
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{len(rows)} of {SPARES} spares of {runtime} after 180 s")
        time.sleep(0.1)


def name() -> str:
    """Returns the name of a client that nobody had before."""
    return f"bench-{secrets.token_hex(3)}"


def rebinds() -> list[float]:
    """Returns the times of a reset to another game in the same container."""
    client = name()
    times: list[float] = []
    ids: set[str | None] = set()
    for turn in range(RUNS + 1):
        env = raygym.make((FLASH, OTHER_FLASH)[turn % 2], backend="docker", client_id=client)
        try:
            times.append(timed(env.reset))
            ids.add(env.unwrapped.remote_id)
        finally:
            env.close()
    assert len(ids) == 1, f"expected one container, saw {ids}"
    remove(ids)
    return times[1:]


def remove(remote_ids: set[str | None]) -> None:
    """Removes containers that wait for their client."""
    store = docker_store(RemoteNeeds(runtime="flashgames", env_id=FLASH))
    try:
        for remote_id in remote_ids:
            store.remove(str(remote_id))
    finally:
        store.close()


def side_by_side(env_id: str) -> float:
    """Returns how long twenty remotes take until each gave its first observation."""
    started_s = time.perf_counter()
    env = raygym.make_vec(env_id, remotes=SIDE_BY_SIDE, backend="docker", start_timeout_s=300)
    try:
        env.reset()
        return time.perf_counter() - started_s
    finally:
        env.close()


def main() -> None:
    """Prints the table."""
    print("| what | p50, ms | p99, ms | of | aim |\n|---|---|---|---|---|")
    row("cold start to first frame, flashgames, real time", cold(FLASH, "realtime"), "p50 3000")
    row("cold start to first frame, flashgames, lock-step", cold(FLASH, "lockstep"), "p50 3000")
    row("cold start to first observation, gym-core, lock-step", cold(GYM, "lockstep"), "p50 1500")
    row("cold start to first frame, gym-core, real time", cold(GYM, "realtime"), "p50 1500")
    row("claim of a spare, gym-core", claims(GYM), "p50 50, p99 200")
    row("claim of a spare, flashgames", claims(FLASH), "p50 50, p99 200")
    row("rebind to another game, with the reset", rebinds(), "p50 500")
    row(f"{SIDE_BY_SIDE} remotes side by side, gym-core", [side_by_side(GYM)], "")
    row(f"{SIDE_BY_SIDE} remotes side by side, flashgames", [side_by_side(FLASH)], "")


if __name__ == "__main__":
    main()
