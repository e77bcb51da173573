"""Trains Pong from pixels and says how long it took.

python benchmarks/pong.py [--run deterministic|sticky|a3c|remotes] [--seeds 1 2 3] [--minutes 8]

deterministic   the batched learner; four frames a step, no sticky actions
sticky          the batched learner; the rules of ALE/Pong-v5
a3c             A3C, the rules of deterministic
remotes         as deterministic, but the games are on remotes, in lock-step

Each seed is a run of its own. Time counts from the first step of an environment; start-up, from
the start of the run to that step, is stated apart. Scores are those of the training policy, as it
plays, of the last 100 episodes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from raygym.policies.a3c import A3CConfig
from raygym.service.ray_running import ray_running
from raygym.service.reports import ActorLost
from raygym.training.config import TrainConfig
from raygym.training.plan import make_plan
from raygym.training.runners import Resumed, make_runner

_DETERMINISTIC = "gym-core.PongDeterministic-v3"
RUNS: dict[str, dict[str, Any]] = {
    "deterministic": {"env": _DETERMINISTIC, "algo": "batched", "backend": "local"},
    "sticky": {"env": "ALE/Pong-v5", "algo": "batched", "backend": "local"},
    "a3c": {
        "env": _DETERMINISTIC,
        "algo": "a3c",
        "backend": "local",
        "workers": 2,
        "num_slots": 16,
        "frame_stack": 4,
        "learner": A3CConfig(
            learning_rate=1e-3,
            max_grad_norm=0.5,
            anneal_updates=10_000,
            final_learning_rate=1e-4,
        ),
    },
    "remotes": {"env": _DETERMINISTIC, "algo": "batched", "backend": "process"},
}
TARGETS = (0, 10, 18, 19, 20)
GOALS_MINUTES = {
    ("deterministic", 18): 5,
    ("deterministic", 20): 8,
    ("a3c", 18): 12,
    ("sticky", 18): 20,
}
EPISODES = 100
POINT_EVERY_S = 10.0
POLL_S = 0.25
STATES = ("entropy", "kl", "clip_fraction", "value_loss", "grad_global_norm", "learning_rate")
SECONDS = ("seconds_collect", "seconds_learn", "seconds_average")


class Record:
    """What came of one run."""

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.first_step_s: float | None = None
        self.steps = 0
        self.scores: list[float] = []
        self.reached: dict[str, dict[str, float]] = {}
        self.curve: list[dict[str, Any]] = []
        self.seconds: dict[str, float] = dict.fromkeys(SECONDS, 0.0)
        self.losses = 0
        self._latest: dict[str, float] = {}

    @property
    def minutes(self) -> float:
        """Since the first step."""
        return 0.0 if self.first_step_s is None else (time.monotonic() - self.first_step_s) / 60

    @property
    def mean(self) -> float | None:
        """Of the last 100 episodes; None before there are as many."""
        return float(np.mean(self.scores[-EPISODES:])) if len(self.scores) >= EPISODES else None

    def note(self, answer: Any) -> None:
        """Takes in one report."""
        if isinstance(answer, ActorLost):
            self.losses += 1
            return
        sampler = answer.sampler
        if sampler.is_fatal:
            raise SystemExit(sampler.error)
        if sampler.steps and self.first_step_s is None:
            self.first_step_s = time.monotonic()
        self.steps += sampler.steps
        self.scores += [episode.score for episode in sampler.episodes]
        if answer.has_gradient:
            self._latest = dict(answer.statistics)
            for name in SECONDS:
                self.seconds[name] += answer.statistics.get(name, 0.0)
        for target in TARGETS:
            if self.mean is not None and self.mean >= target and str(target) not in self.reached:
                self.reached[str(target)] = {
                    "minutes": round(self.minutes, 3),
                    "env_steps": self.steps,
                    "episodes": len(self.scores),
                }

    def point(self) -> dict[str, Any]:
        """Adds a point to the curve and returns it."""
        last = self.scores[-20:]
        self.curve.append(
            {
                "minutes": round(self.minutes, 3),
                "env_steps": self.steps,
                "episodes": len(self.scores),
                "mean_100": None if self.mean is None else round(self.mean, 2),
                "mean_20": round(float(np.mean(last)), 2) if last else None,
                "steps_per_s": round(self.steps / max(1e-9, 60 * self.minutes)),
                **{k: round(v, 5) for k, v in self._latest.items() if k in STATES},
            }
        )
        return self.curve[-1]


def run(name: str, seed: int, minutes: float, stop_at: float) -> dict[str, Any]:
    """Trains once; Ray's start, imports of the actors and the making of environments count."""
    started_s = time.monotonic()
    config = TrainConfig(seed=seed, **RUNS[name])
    plan = make_plan(config)
    record = Record(started_s)
    with ray_running(plan.workers + 1, has_dashboard=False):
        runner = make_runner(config, plan, Resumed())
        try:
            next_s = 0.0
            while record.minutes < minutes and (record.mean is None or record.mean < stop_at):
                for answer in runner.poll(timeout_s=POLL_S):
                    record.note(answer)
                if record.first_step_s is not None and time.monotonic() >= next_s:
                    next_s = time.monotonic() + POINT_EVERY_S
                    print(f"{name} seed {seed}: {record.point()}", flush=True)
            record.point()
        finally:
            runner.close()
    total_s = sum(record.seconds.values())
    return {
        "run": name,
        "env": config.env,
        "seed": seed,
        "processes": plan.actors if config.algo == "a3c" else plan.learners,
        "slots": plan.workers,
        "learner": asdict(config.learner if config.algo == "a3c" else plan.batched),
        "start_up_s": round((record.first_step_s or time.monotonic()) - started_s, 1),
        "minutes": round(record.minutes, 3),
        "env_steps": record.steps,
        "steps_per_s": round(record.steps / max(1e-9, 60 * record.minutes)),
        "reached": record.reached,
        "shares": {k: round(v / max(1e-9, total_s), 3) for k, v in record.seconds.items()},
        "learner_slots_lost": record.losses,
        "curve": record.curve,
    }


def table(results: list[dict[str, Any]]) -> str:
    """Returns a section for docs/benchmarks.md."""
    name = results[0]["run"]
    lines = [
        f"### Pong from pixels: {name} ({results[0]['env']}), {results[0]['processes']} processes, "
        f"{results[0]['slots']} games",
        "",
        "| seed | start-up | mean 18 | mean 20 | env steps to 18 | steps/s | last mean of 100 |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results:
        at_18, at_20 = one["reached"].get("18"), one["reached"].get("20")
        lines.append(
            f"| {one['seed']} | {one['start_up_s']:.0f} s | {_minutes(at_18)} | {_minutes(at_20)} "
            f"| {at_18['env_steps'] if at_18 else '-'} | {one['steps_per_s']:,} "
            f"| {one['curve'][-1]['mean_100']} after {one['minutes']:.1f} min |"
        )
    for target in (18, 20):
        goal = GOALS_MINUTES.get((name, target))
        if goal is None:
            continue
        took = [one["reached"].get(str(target), {}).get("minutes", float("inf")) for one in results]
        middle = statistics.median(took)
        said = "not reached" if middle == float("inf") else f"{middle:.2f} min"
        lines += ["", f"Median to a mean of {target}: **{said}**; the goal is {goal} min."]
    lines += [
        "",
        "| seed | minutes | env steps | mean of 100 | mean of 20 |",
        "|---|---|---|---|---|",
    ]
    for one in results:
        points = one["curve"]
        for point in points[:: max(1, len(points) // 12)]:
            lines.append(
                f"| {one['seed']} | {point['minutes']:.2f} | {point['env_steps']:,} "
                f"| {point['mean_100']} | {point['mean_20']} |"
            )
    return "\n".join(lines) + "\n"


def _minutes(reached: dict[str, float] | None) -> str:
    return f"{reached['minutes']:.2f} min" if reached else "-"


def main() -> int:
    """Runs all seeds, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--run", choices=list(RUNS), default="deterministic")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--minutes", type=float, default=8.0, help="longest time of a seed")
    parser.add_argument("--stop-at", type=float, default=20.0, help="mean of 100 that is enough")
    parser.add_argument("--out", type=Path, default=Path("runs/pong"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in arguments.seeds:
        results.append(run(arguments.run, seed, arguments.minutes, arguments.stop_at))
        name = arguments.out / arguments.run
        name.with_suffix(".json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        name.with_suffix(".md").write_text(table(results), encoding="utf-8")
    print(table(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
