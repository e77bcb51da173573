from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raygym.core import Outcome
from raygym.service.reports import ActorReport, EpisodeRecord, SamplerReport
from raygym.training.board import DIAGNOSTICS_EVERY_S, Board


def report(outcome: Outcome = Outcome.OK) -> ActorReport:
    episode = EpisodeRecord(slot=0, score=6.0, steps=30, duration_s=3.0, outcome=outcome, reason="")
    sampler = SamplerReport(
        slot=0,
        steps=50,
        episodes=[episode],
        times_ms={"action_lag_ms": [1.0, 2.0, 9.0]},
        counts={"vnc_updates": 20.0},
    )
    return ActorReport(
        sampler=sampler, has_gradient=True, statistics={"policy_loss": 0.5, "entropy": 1.0}, pid=1
    )


def written(directory: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(directory))
    events.Reload()
    return {
        tag: [(e.step, round(e.value, 3)) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tags_are_those_of_universe_starter_agent_against_the_step_count(tmp_path: Path):
    board = Board(tmp_path, now_s=0.0)
    board.note(report(), env_steps=50, now_s=1.0)
    board.note(report(), env_steps=100, now_s=DIAGNOSTICS_EVERY_S)
    board.close()
    assert written(tmp_path) == {
        "model/policy_loss": [(50, 0.5), (100, 0.5)],
        "model/entropy": [(50, 1.0), (100, 1.0)],
        "global/episode_reward": [(50, 6.0), (100, 6.0)],
        "global/episode_length": [(50, 30.0), (100, 30.0)],
        "global/episode_time": [(50, 3.0), (100, 3.0)],
        "global/reward_per_time": [(50, 2.0), (100, 2.0)],
        "diagnostics/fps": [(100, 10.0)],
        "diagnostics/action_lag_ms": [(100, 2.0)],
        "diagnostics/vnc_updates_per_s": [(100, 4.0)],
    }


def test_model_tags_are_thinned_and_failed_episodes_left_out(tmp_path: Path):
    board = Board(tmp_path, now_s=0.0)
    for now_s in (1.0, 1.1, 1.2):
        board.note(report(Outcome.INFRA_FAILURE), env_steps=50, now_s=now_s)
    board.close()
    found = written(tmp_path)
    assert found["model/policy_loss"] == [(50, 0.5)]
    assert not any(tag.startswith("global/") for tag in found)
