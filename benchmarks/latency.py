"""Start time, latency and memory of one remote.

python benchmarks/latency.py [--env flashgames.NeonRace-v0 ...] [--starts 10] [--keys 200]
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import time
from pathlib import Path

import raygym
from raygym.remote_env.process_backend import ProcessBackend
from raygym.remote_env.realtime_env import RealtimeEnv


def percentile(values: list[float], share: float) -> float:
    """Returns the value below which that share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def starts_s(env_id: str, count: int) -> list[float]:
    """Times from asking for a remote to its first valid game frame, in seconds."""
    times = []
    for _ in range(count):
        env = raygym.make(env_id, remotes=1)
        began_s = time.perf_counter()
        try:
            env.reset()
            times.append(time.perf_counter() - began_s)
        finally:
            env.close()
    return times


def key_to_frame_ms(env: RealtimeEnv, count: int) -> list[float]:
    """Times from sending a key to holding a frame that shows its arrival, in milliseconds."""
    env.reset()
    times: list[float] = []
    action = 0
    while len(times) < count:
        if math.isinf(env.fps):
            # A throttled step begins right after a frame; here keys come at any time.
            time.sleep(random.random() / env.metadata["render_fps"])
        before = env.timing_mark
        action = 1 - action
        sent_s = time.perf_counter()
        while True:
            *_, terminated, truncated, _ = env.step(action)
            mark = env.timing_mark
            if before and mark and mark.input_count != before.input_count:
                times.append((time.perf_counter() - sent_s) * 1000)
                break
            if terminated or truncated or time.perf_counter() - sent_s > 1:
                break
        if terminated or truncated:
            env.reset()
        for _ in range(random.randint(1, 3)):
            env.step(action)
    return times


def memory_mb(backend: ProcessBackend, remote_id: str) -> tuple[float, int]:
    """Returns the PSS of all processes of a remote in megabytes, and how many they are."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int(
                (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
            )
        except OSError:
            continue
    family = {backend.pid(remote_id)}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    total_kb = 0
    for pid in family:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb / 1024, len(family)


def measure(env_id: str, starts: int, keys: int) -> list[tuple[str, str]]:
    """Returns what was measured of an environment, with its unit."""
    times_s = starts_s(env_id, starts)
    found = [
        (f"start to first valid frame, p50 of {starts}", f"{statistics.median(times_s):.2f} s")
    ]
    backend = ProcessBackend()
    try:
        for name, fps in (("at 25 fps", 25.0), ("unthrottled", math.inf)):
            env = raygym.make(env_id, backend=backend, fps=fps)
            times_ms = key_to_frame_ms(env, keys)
            p50, p95 = percentile(times_ms, 0.5), percentile(times_ms, 0.95)
            what = f"key to changed frame, env {name}, p50 / p95"
            found.append((what, f"{p50:.1f} / {p95:.1f} ms"))
            if name == "unthrottled":
                assert env.remote_id is not None
                total_mb, processes = memory_mb(backend, env.remote_id)
                what = f"memory of one remote, PSS of {processes} processes"
                found.append((what, f"{total_mb:.0f} MB"))
            env.close()
    finally:
        backend.close()
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", nargs="+", default=["flashgames.NeonRace-v0", "test.Catch-v0"])
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--keys", type=int, default=200)
    given = parser.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores\n")
    print("| environment | what | measured |\n|---|---|---|")
    for env_id in given.env:
        for what, measured in measure(env_id, given.starts, given.keys):
            print(f"| {env_id} | {what} | {measured} |", flush=True)


if __name__ == "__main__":
    main()
