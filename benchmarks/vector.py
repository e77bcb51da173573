"""A vector step, and first-ready batches of uneven environments, beside AsyncVectorEnv.

python benchmarks/vector.py [--rounds 7]

Rounds of both take turns in one run, and each figure is the median of its rounds, so that what
else the machine does meets both alike. What counts is the ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv

from raygym.vector.process_slots import ProcessSlots
from raygym.vector.vector_env import SlotVectorEnv

ROUND_S = 0.5
"""About how long a round takes."""
PICTURE = (84, 84, 4)
UNEVEN_ENVS, SLOW_ENVS = 16, 2
FAST_S, SLOW_S = 0.005, 0.05
"""How long a step of an uneven environment waits."""
BATCH_SIZE = 8

RunFor = Callable[[float], float]
"""Plays for about so many seconds; returns env-steps/s."""


class PictureEnv(gymnasium.Env[Any, int]):
    """Shows a stack of frames that costs next to nothing to make; its episodes never end."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 255, PICTURE, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(6)
        self._pictures = np.random.default_rng(1).integers(0, 255, (16, *PICTURE), np.uint8)
        self._steps = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self._pictures[0], {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return self._pictures[self._steps % 16], 1.0, False, False, {}


class UnevenEnv(PictureEnv):
    """The same, after a wait, as an environment has that runs elsewhere."""

    def __init__(self, step_s: float) -> None:
        super().__init__()
        self._step_s = step_s

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(self._step_s)
        return super().step(action)


def picture_env(slot: int) -> PictureEnv:
    return PictureEnv()


def uneven_env(slot: int) -> UnevenEnv:
    """Makes a slow one of the last few."""
    return UnevenEnv(SLOW_S if slot >= UNEVEN_ENVS - SLOW_ENVS else FAST_S)


def in_step(env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> RunFor:
    """Steps all environments at once."""
    env.reset(seed=1)
    actions = np.zeros(env.num_envs, np.int64)

    def run_for(seconds: float) -> float:
        steps, began_s = 0, time.perf_counter()
        while (spent_s := time.perf_counter() - began_s) < seconds:
            env.step(actions)
            steps += env.num_envs
        return steps / spent_s

    return run_for


def first_ready(env: SlotVectorEnv) -> RunFor:
    """Steps whichever environments are ready."""
    env.async_reset(seed=1)
    actions = np.zeros(env.batch_size, np.int64)
    ids = [env.recv()[4]["env_id"]]

    def run_for(seconds: float) -> float:
        steps, began_s = 0, time.perf_counter()
        while (spent_s := time.perf_counter() - began_s) < seconds:
            env.send(actions, ids[0])
            ids[0] = env.recv()[4]["env_id"]
            steps += len(actions)
        return steps / spent_s

    return run_for


@contextlib.contextmanager
def peer(factory: Callable[[int], Any], count: int) -> Iterator[RunFor]:
    """Plays in Gymnasium's AsyncVectorEnv with shared memory."""
    makers = [functools.partial(factory, slot) for slot in range(count)]
    with contextlib.closing(AsyncVectorEnv(makers, shared_memory=True)) as env:
        yield in_step(env)


@contextlib.contextmanager
def ours(factory: Callable[[int], Any], count: int, batch_size: int | None) -> Iterator[RunFor]:
    """Plays in process slots: all in step, or the first that are ready, each in its process."""
    processes = None if batch_size is None else count
    slots = ProcessSlots(factory, count, num_processes=processes)
    with contextlib.closing(SlotVectorEnv(slots, batch_size=batch_size)) as env:
        yield in_step(env) if batch_size is None else first_ready(env)


def compare(
    what: str,
    factory: Callable[[int], Any],
    count: int,
    *,
    aim: float,
    rounds: int,
    batch_size: int | None = None,
) -> list[str]:
    """Returns the cells of a row."""
    with peer(factory, count) as theirs, ours(factory, count, batch_size) as mine:
        sides = {"gymnasium": theirs, "raygym": mine}
        for run_for in sides.values():
            run_for(ROUND_S / 2)
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, run_for in sides.items():
                rates[name].append(run_for(ROUND_S))
    median = {name: statistics.median(seen) for name, seen in rates.items()}
    ratio = median["raygym"] / median["gymnasium"]
    verdict = "reached" if ratio >= aim else "**not reached**"
    figures = [f"{median[name]:,.0f}" for name in sides]
    return [what, *figures, f"{ratio:.2f}", f"{aim:g} {verdict}"]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores\n")
    print("| env-steps/s | AsyncVectorEnv | raygym | times as many | at least |")
    print("|---|---|---|---|---|")
    step = "vector step, 8 slots of 84x84x4"
    uneven = (
        f"first {BATCH_SIZE} ready of {UNEVEN_ENVS}, {SLOW_ENVS} of them ten times slower "
        f"({FAST_S * 1e3:g} ms and {SLOW_S * 1e3:g} ms)"
    )
    for cells in (
        compare(step, picture_env, 8, aim=1.0, rounds=rounds),
        compare(uneven, uneven_env, UNEVEN_ENVS, aim=3.0, rounds=rounds, batch_size=BATCH_SIZE),
    ):
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
