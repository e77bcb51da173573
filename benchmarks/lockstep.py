"""One step in lock-step, beside remote-gym in the same run, and a Flash game on one core.

python benchmarks/lockstep.py [--rounds 7] [--no-flash]

Rounds of both take turns, and each figure is the median of its rounds, so that what else the
machine does meets both alike. What counts is the ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import raygym

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEER_PYTHON = ROOT / ".peers" / "remote_gym" / "bin" / "python"
START_TIMEOUT_S = 60
ROUND_S = 0.5
"""About how long a round takes."""
WARM_UP_STEPS = 200
"""While the browser still compiles."""
FLASH_AIM = 80.0
"""Agent steps a second, frame_skip 5."""

TimeSteps = Callable[[int], float]
"""Does so many steps; returns the seconds that they took."""


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    what: str
    kind: str
    aim: float
    """The least ratio."""
    count: int = 1
    """Environments in one remote; remote-gym has one."""


CASES = (
    Case("one step, CartPole", "cartpole", 5),
    Case("one step, 1024x768x3 uint8", "screen", 6),
    Case("one step, 210x160x3 float32", "floats", 10),
    Case("one env-step, batch of 64 CartPoles", "cartpole", 100, count=64),
)


@contextlib.contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Runs a program that ends when its input does."""
    made = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "0"},
    )
    try:
        yield made
    finally:
        assert made.stdin is not None
        made.stdin.close()
        try:
            made.wait(10)
        except subprocess.TimeoutExpired:
            made.kill()
            made.wait(10)


@contextlib.contextmanager
def remote_gym(kind: str) -> Iterator[TimeSteps]:
    """Steps an environment through remote-gym's stock server and client."""
    args = json.dumps({"kind": kind})
    server_script = ROOT / "tests" / "peers" / "remote_gym_server.py"
    with process(str(PEER_PYTHON), str(server_script), args, str(HERE)) as server:
        port = server.stdout.readline().strip()
        script = str(HERE / "remote_gym_steps.py")
        with process(str(PEER_PYTHON), script, port, "{}") as client:
            if client.stdout.readline().strip() != "ready":
                raise RuntimeError("remote-gym's client did not get ready; see above")

            def time_steps(steps: int) -> float:
                client.stdin.write(f"{steps}\n")
                client.stdin.flush()
                return float(client.stdout.readline())

            yield time_steps


@contextlib.contextmanager
def ours(kind: str, count: int) -> Iterator[TimeSteps]:
    """Steps environments of one remote through ``raygym.RemoteEnv``."""
    factory = f"{HERE / 'peer_envs.py'}:create_environment"
    kwargs = {"kind": kind}
    with raygym.serve_env(factory) as server:
        address = f"grpc://{server.endpoint}"
        env: Any
        if count == 1:
            env = raygym.RemoteEnv(address, env_kwargs=kwargs)
            actions: list[Any] = [0, 1]
        else:
            env = raygym.RemoteVectorEnv(address, count, env_kwargs=kwargs)
            actions = [env.action_space.sample() for _ in range(2)]
        try:
            env.reset(seed=1)

            def time_steps(steps: int) -> float:
                began_s = time.perf_counter()
                for i in range(steps):
                    env.step(actions[i & 1])
                return time.perf_counter() - began_s

            yield time_steps
        finally:
            env.close()


def compare(case: Case, rounds: int) -> list[str]:
    """Returns the cells of a case's row."""
    with remote_gym(case.kind) as theirs, ours(case.kind, case.count) as mine:
        sides = {"remote-gym": theirs, "raygym": mine}
        steps = {}
        for name, time_steps in sides.items():
            time_steps(10)
            steps[name] = max(10, int(ROUND_S * 50 / time_steps(50)))
        seen: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, time_steps in sides.items():
                seen[name].append(1e6 * time_steps(steps[name]) / steps[name])
    peer_us = statistics.median(seen["remote-gym"])
    our_us = statistics.median(seen["raygym"]) / case.count
    ratio = peer_us / our_us
    verdict = "reached" if ratio >= case.aim else "**not reached**"
    return [
        case.what,
        f"{peer_us:,.0f}",
        f"{our_us:,.1f}" if our_us < 100 else f"{our_us:,.0f}",
        f"{ratio:.1f}",
        f"{case.aim:g} {verdict}",
    ]


def flash(frame_skip: int, observation: raygym.ObservationConfig, steps: int) -> float:
    """Returns agent steps/s of NeonRace, all of its remote's processes on one core."""
    cores = os.sched_getaffinity(0)
    one = {min(cores)}
    env = raygym.make(
        "flashgames.NeonRace-v0", mode="lockstep", frame_skip=frame_skip, observation=observation
    )
    try:
        # What starts now stays on one core: the remote. The near end itself moves on.
        os.sched_setaffinity(0, one)
        env.reset(seed=1)
        os.sched_setaffinity(0, cores - one or cores)
        env.action_space.seed(1)
        spent_s = 0.0
        for step in range(WARM_UP_STEPS + steps):
            began_s = time.perf_counter()
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if step >= WARM_UP_STEPS:
                spent_s += time.perf_counter() - began_s
            if terminated or truncated:
                env.reset()
        return steps / spent_s
    finally:
        os.sched_setaffinity(0, cores)
        env.close()


def print_flash(steps: int) -> None:
    """Prints the table of the Flash game."""
    print("\n| NeonRace, one core | frame_skip | agent steps/s | game frames/s | at least |")
    print("|---|---|---|---|---|")
    views = {
        "96x72 grey, as in training": raygym.ObservationConfig(
            height_px=72, width_px=96, is_grey=True
        ),
        "640x480 RGB, the whole picture": raygym.ObservationConfig(),
    }
    for what, observation in views.items():
        for frame_skip, aim in ((5, FLASH_AIM), (4, 0), (1, 0)):
            rate = flash(frame_skip, observation, steps)
            verdict = "reached" if rate >= aim else "**not reached**"
            goal = f"{aim:g} {verdict}" if aim else ""
            cells = (what, frame_skip, f"{rate:.0f}", f"{rate * frame_skip:.0f}", goal)
            print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--flash-steps", type=int, default=600)
    parser.add_argument("--no-flash", action="store_true")
    given = parser.parse_args()
    subprocess.run([ROOT / "scripts" / "peers", "remote_gym"], check=True, timeout=900)
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores\n")
    print("| what | remote-gym, us | raygym, us | times faster | at least |")
    print("|---|---|---|---|---|")
    for case in CASES:
        print("| " + " | ".join(compare(case, given.rounds)) + " |", flush=True)
    if not given.no_flash:
        print_flash(given.flash_steps)


if __name__ == "__main__":
    sys.exit(main())
