from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raygym.errors import ConfigError
from raygym.policies import checkpoint as checkpoints
from raygym.policies.a3c import A3CConfig
from raygym.service.ray_running import ray_running
from raygym.service.reports import ActorLost
from raygym.training.config import TrainConfig
from raygym.training.fleet import Fleet
from raygym.training.plan import Plan
from raygym.training.trainer import NothingStarted, StopFlag, Trainer, train
from tests.support.plans import make_none, scripted_plan, tiny_plan

LEARNER = A3CConfig(learning_rate=1e-3)


@pytest.fixture(scope="module", autouse=True)
def ray_once() -> Iterator[None]:
    with ray_running(4, has_dashboard=False):
        yield


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Trains on a plan; what was printed is in ``run.output``."""

    def train_on(plan: Plan, stop: StopFlag | None = None, **settings: Any) -> dict[str, Any]:
        output = io.StringIO()
        config = TrainConfig(
            **{"env": plan.spec.id, "logdir": tmp_path / "run", "learner": LEARNER, **settings}
        )
        try:
            return train(config, plan=plan, console=Console(file=output, width=200), stop=stop)
        finally:
            train_on.output = output.getvalue()

    train_on.output = ""
    return train_on


def test_a_run_learns_and_writes_summary_checkpoint_and_tensorboard(run, tmp_path: Path):
    summary = run(tiny_plan(), minutes=2.0, target_score=7.0, summary=tmp_path / "s.json")
    assert summary == json.loads((tmp_path / "s.json").read_text())
    assert summary["env"] == "test.Tiny-v0"
    assert summary["env_steps"] == summary["env_steps_this_run"] > 600
    assert summary["outcomes"] == {"ok": summary["episodes"]}
    assert summary["reaction_time_ms"] == {"p50": 25.0, "p95": 25.0}
    assert (summary["floor"], summary["ceiling"]) == (-10 / 3, 10.0)
    assert summary["last_100_episodes"]["share_of_ceiling"] > 0.7, run.output
    assert summary["best_score"] == 10.0
    held = checkpoints.load(tmp_path / "run")
    assert held.env_steps == summary["env_steps"]
    assert sorted(held.random_states) == [0, 1]
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert {
        "model/policy_loss",
        "model/value_loss",
        "model/entropy",
        "model/grad_global_norm",
        "model/var_global_norm",
        "global/episode_reward",
        "global/episode_length",
        "global/episode_time",
        "global/reward_per_time",
        "diagnostics/fps",
        "diagnostics/reaction_time_ms",
    } <= set(events.Tags()["scalars"])


def test_a_resumed_run_goes_on_with_steps_optimiser_and_random_state(run, tmp_path: Path):
    plan = scripted_plan(["ok:10"])
    first = run(plan, steps=100)
    held = checkpoints.load(tmp_path / "run")
    second = run(plan, steps=first["env_steps"] + 100, logdir=None, resume=tmp_path / "run")
    assert second["env_steps"] == first["env_steps"] + second["env_steps_this_run"]
    assert second["episodes"] >= first["episodes"] + 9
    assert second["checkpoint"].startswith(str(tmp_path / "run" / "checkpoints"))
    after = checkpoints.load(tmp_path / "run")
    assert after.parameters["version"] > held.parameters["version"]
    assert after.random_states[0] != held.random_states[0]
    other = replace(plan, network=replace(plan.network, action_count=4))
    with pytest.raises(ConfigError, match="its network is"):
        run(other, resume=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"trained on test\.Tiny-v0, not on test\.Other-v0"):
        run(replace(plan, spec=replace(plan.spec, id="test.Other-v0")), resume=tmp_path / "run")


def test_failures_are_counted_under_their_outcome_and_every_slot_goes_on(run):
    summary = run(
        scripted_plan(["ok:5", "infra_failure:3"], ["env_failure:4", "ok:6", "ok:6"]), steps=400
    )
    outcomes = summary["outcomes"]
    assert outcomes["infra_failure"] >= 3
    assert outcomes["env_failure"] >= 3
    assert outcomes["ok"] >= 6
    assert sum(outcomes.values()) == summary["episodes"]
    assert summary["remotes"]["lost"] == outcomes["infra_failure"]
    assert 5.0 <= summary["mean_score"] <= 6.0, "episodes that failed have no score"
    assert "worker 0: infra_failure after 3 steps: it broke" in run.output


def test_an_actor_that_is_killed_is_replaced_and_the_run_goes_on(run, monkeypatch):
    stop = StopFlag()
    killed: list[int] = []
    steps_after: list[int] = []
    note = Trainer._note

    def note_and_kill(self: Trainer, report: Any) -> None:
        note(self, report)
        if report.sampler.slot != 1:
            return
        if not killed and self._accounts.slots[1].steps > 40:
            killed.append(report.pid)
            os.kill(report.pid, signal.SIGKILL)
        elif killed and report.pid != killed[0]:
            steps_after.append(report.sampler.steps)
            if sum(steps_after) > 40:
                stop.request()

    monkeypatch.setattr(Trainer, "_note", note_and_kill)
    summary = run(scripted_plan(["ok:10"], ["ok:10"]), stop=stop, minutes=1.5)
    assert sum(steps_after) > 40
    assert summary["actors_lost"] == 1
    assert summary["outcomes"]["infra_failure"] == 1
    assert summary["remotes"] == {"started": 3, "lost": 1}
    assert "worker 1: its actor ended and is replaced" in run.output


def test_a_run_in_which_nothing_starts_ends_with_the_reasons(run, tmp_path: Path):
    with pytest.raises(NothingStarted, match="no such display") as raised:
        run(tiny_plan(make_none), summary=tmp_path / "s.json")
    assert "worker 1: RemoteFailedToStart: remote r-1 did not get ready" in str(raised.value)
    assert not (tmp_path / "s.json").exists()


def test_gradients_and_weights_do_not_pass_through_the_trainer():
    fleet = Fleet(tiny_plan(), LEARNER, seed=0)
    try:
        answers = []
        while sum(a.has_gradient for a in answers) < 5:
            answers += fleet.poll(timeout_s=5)
        assert not any(isinstance(a, ActorLost) for a in answers)
        assert fleet.parameters()["version"] >= 4
        largest = max(len(repr(a)) for a in answers)
        assert largest < 100_000
    finally:
        fleet.close()
