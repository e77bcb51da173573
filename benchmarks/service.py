"""What faults and Ray cost the rollout service, each as a ratio within one run.

python benchmarks/service.py [ROW ...] [--seconds 30] [--rounds 2]

Both sides of a row take turns, so that what else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import ray

from raygym.core import Rollout
from raygym.service.random_policy import RandomActions
from raygym.service.ray_running import ray_running
from raygym.service.ray_vector_env import RayVectorEnv
from raygym.service.rollout_service import RolloutService
from raygym.service.shared_frames import FramesAddress, FramesPool, FramesReader
from raygym.service.slot_sampler import SlotSampler
from raygym.vector.inline_slots import InlineSlots
from raygym.vector.process_slots import ProcessSlots
from raygym.vector.slots import Slots
from raygym.vector.vector_env import SlotVectorEnv

ROWS = ("crossing", "price", "processes", "actors")
SLOTS = 8
STEPS = 32
SHAPE = (84, 84, 4)
STEP_S = 0.005
"""What a step of the environment takes where faults are planted; it sleeps, as a remote would."""
FAULT_EVERY_S = 10.0
FAULTLESS_SHARE = 0.9
CROSSING_AIM = 3.0
CROSSING_STEPS = 128
"""As PPO plays them: 29 MB a Rollout."""
CROSSINGS = 20
PRICE_STEPS = 200
NOTHING = np.empty(0, np.uint8)
TABLE = sys.stdout
"""Ray itself prints there what it thinks of processes that were killed; see ``main``."""


class Pictures(gymnasium.Env[Any, Any]):
    """Pictures of noise at no cost; an episode is 500 steps.

    Args:
        step_s: How long a step takes.
        pid_file: Where to write its process, and the one that owns it.
    """

    observation_space = gymnasium.spaces.Box(0, 255, SHAPE, np.uint8)
    action_space = gymnasium.spaces.Discrete(6)

    def __init__(self, step_s: float = 0.0, pid_file: Path | None = None) -> None:
        self._step_s = step_s
        self._picture = np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)
        self._steps = 0
        if pid_file is not None:
            pid_file.write_text(f"{os.getpid()} {os.getppid()}")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self._steps = 0
        return self._picture, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._step_s:
            time.sleep(self._step_s)
        self._steps += 1
        return self._picture, 1.0, False, self._steps == 500, {}


def pictures(slot: int) -> Pictures:
    return Pictures()


def cart_pole(slot: int) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("CartPole-v1")


def slow_pictures(directory: Path, first: int, slot: int) -> Pictures:
    return Pictures(STEP_S, directory / str(first + slot))


def process_slots(directory: Path, first: int, count: int) -> Slots:
    """Makes the slots of an actor, each in a process of its own."""
    factory = functools.partial(slow_pictures, directory, first)
    return ProcessSlots(factory, count, num_processes=count)


def row(text: str) -> None:
    """Prints a row of the table."""
    print(text, file=TABLE, flush=True)


class Killer:
    """Ends one process with ``kill -9`` now and then, while it is told to.

    Args:
        directory: Where the environments wrote their processes.
        of_actor: Whether it ends the actor that owns them instead.
    """

    def __init__(self, directory: Path, *, of_actor: bool) -> None:
        self._directory = directory
        self._of_actor = of_actor
        self._random = random.Random(1)
        self._ended = threading.Event()
        self.killed = 0

    def __enter__(self) -> Killer:
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        wait_s = FAULT_EVERY_S / 2
        while not self._ended.wait(wait_s):
            slot = self._random.choice(sorted(self._directory.iterdir()))
            pid = int(slot.read_text().split()[self._of_actor])
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed += 1
            wait_s = FAULT_EVERY_S


def whole_steps_per_s(service: RolloutService, seconds: float) -> float:
    """Returns env-steps a second that may be learned from."""
    began_s = time.monotonic()
    steps = 0
    for rollout in service.rollouts(timeout_s=60):
        steps += int(rollout.mask.sum())
        if time.monotonic() - began_s > seconds:
            break
    return steps / (time.monotonic() - began_s)


def print_faults(seconds: float, rounds: int, *, of_actor: bool) -> None:
    """Prints the row of one kind of fault."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        killer = Killer(directory, of_actor=of_actor)
        make = functools.partial(process_slots, directory)
        with RolloutService(
            make, SLOTS, rollout_steps=STEPS, slots_per_actor=SLOTS // 2
        ) as service:
            whole_steps_per_s(service, 5)
            rates: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(rounds):
                rates[False].append(whole_steps_per_s(service, seconds))
                with killer:
                    rates[True].append(whole_steps_per_s(service, seconds))
    without, with_faults = (statistics.mean(rates[kind]) for kind in (False, True))
    what = "actor" if of_actor else "environment's process"
    share = with_faults / without
    aim = "stated" if of_actor else _verdict(share >= FAULTLESS_SHARE, f"{FAULTLESS_SHARE:.0%}")
    row(
        f"| env-steps/s, {SLOTS} slots of {1e3 * STEP_S:g} ms a step, kill -9 of one {what} "
        f"every {FAULT_EVERY_S:g} s ({killer.killed} killed) | {without:,.0f} without faults | "
        f"{with_faults:,.0f} | {share:.1%} | {aim} |"
    )


class Holder:
    """Answers with the same Rollout again and again; a plain class."""

    def __init__(self) -> None:
        slots = InlineSlots(pictures, SLOTS)
        policy = RandomActions(slots.single_action_space, seed=0, number=0)
        sampler = SlotSampler(slots, policy, rollout_steps=CROSSING_STEPS)
        self._rollout = sampler.collect()
        self._frames = FramesPool()
        sampler.close()

    def rollout(self) -> Rollout | None:
        """Returns it, for Ray's store."""
        return self._rollout

    def shared(self, freed: list[str]) -> tuple[Rollout | None, FramesAddress | None]:
        """Returns it without its pictures, which are copied to a block of shared memory.

        Args:
            freed: Tokens of blocks that may be written again.
        """
        for token in freed:
            self._frames.give_back(token)
        rollout = self._rollout
        assert rollout is not None
        block = self._frames.take(rollout.observations.shape, np.uint8)
        np.copyto(block, rollout.observations)
        bare = replace(rollout, observations=NOTHING, last_observation=NOTHING)
        return bare, self._frames.address_of(block)


def print_crossing(rounds: int) -> None:
    """Prints what it costs that a Rollout comes from an actor to its driver.

    On one node it lies in shared memory; filling the block, which an actor does anyway as it
    plays, is counted. Between nodes it goes through Ray's store.
    """
    holder = ray.remote(Holder).options(num_cpus=0).remote()
    rollout = ray.get(holder.rollout.remote(), timeout=60)
    steps = rollout.mask.size
    source = rollout.observations.copy()
    target = np.empty_like(source)
    del rollout
    reader = FramesReader()
    # As the service does, the next one is asked for before this one is taken.
    asked = {"ray": [holder.rollout.remote()], "shared": [holder.shared.remote([])]}

    def by_ray() -> None:
        asked["ray"].append(holder.rollout.remote())
        ray.get(asked["ray"].pop(0), timeout=60)

    def by_memory() -> None:
        asked["shared"].append(holder.shared.remote(reader.take_freed()))
        reader.read(ray.get(asked["shared"].pop(0), timeout=60)[1])

    times: dict[str, list[float]] = {"memcpy": [], "ray": [], "shared": []}
    for _ in range(rounds):
        times["memcpy"] += _timed(lambda: np.copyto(target, source), CROSSINGS)
        times["ray"] += _timed(by_ray, CROSSINGS)
        times["shared"] += _timed(by_memory, CROSSINGS)
    memcpy_us, ray_us, shared_us = (1e6 * statistics.median(times[k]) / steps for k in times)
    ray.kill(holder)
    for way, took_us in (("on one node", shared_us), ("between nodes, through Ray", ray_us)):
        ratio = took_us / memcpy_us
        row(
            f"| us an env-step, Rollouts [{CROSSING_STEPS}, {SLOTS}] of 84x84x4 to the driver, "
            f"{way} | {memcpy_us:.1f} memcpy | {took_us:.1f} | {ratio:.1f} | "
            f"{_verdict(ratio <= CROSSING_AIM, f'at most {CROSSING_AIM:g}')} |"
        )


def print_price(what: str, make: Callable[[int], gymnasium.Env[Any, Any]], rounds: int) -> None:
    """Prints what a step through Ray costs, beside one in processes of this machine."""
    sides: dict[str, Any] = {
        "processes": SlotVectorEnv(ProcessSlots(make, SLOTS)),
        "an actor each": RayVectorEnv(make, SLOTS),
        "all in one actor": RayVectorEnv(make, SLOTS, envs_per_actor=SLOTS),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for envs in sides.values():
        envs.reset(seed=1)
        actions = envs.action_space.sample()
    for _ in range(rounds):
        for name, envs in sides.items():
            step = functools.partial(envs.step, actions)
            times[name] += _timed(step, PRICE_STEPS)
    medians = {name: 1e3 * statistics.median(times[name]) for name in sides}
    for envs in sides.values():
        envs.close()
    base = medians.pop("processes")
    for name, ms in medians.items():
        row(
            f"| ms a step of {SLOTS} {what} through RayVectorEnv, {name} | "
            f"{base:.2f} in processes | {ms:.2f} | {ms / base:.1f} | stated |"
        )


def _timed(work: Callable[[], Any], times: int) -> list[float]:
    taken = []
    for _ in range(times):
        began_s = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began_s)
    return taken


def _verdict(is_reached: bool, aim: str) -> str:
    return f"{aim} {'reached' if is_reached else '**not reached**'}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", default=ROWS, help=", ".join(ROWS))
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores\n")
    row("| what | against | measured | ratio | aim |")
    row("|---|---|---|---|---|")
    with contextlib.redirect_stdout(io.StringIO()), ray_running(4 * SLOTS, has_dashboard=False):
        if "crossing" in given.rows:
            print_crossing(given.rounds)
        if "price" in given.rows:
            print_price("CartPoles", cart_pole, given.rounds)
            print_price("pictures of 84x84x4", pictures, given.rounds)
        for kind in sorted({"processes", "actors"} & set(given.rows), reverse=True):
            print_faults(given.seconds, given.rounds, of_actor=kind == "actors")


if __name__ == "__main__":
    sys.exit(main())
