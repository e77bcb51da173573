"""Files of runs, as training writes them, for tests of what reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from raygym.core import Outcome
from raygym.service.reports import ActorReport, EpisodeRecord, SamplerReport
from raygym.training.accounts import Accounts
from raygym.training.config import TrainConfig
from raygym.training.record import RunRecord
from tests.support.plans import SPEC, tiny_plan

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
STEP_S = 2.0
"""Between two reports."""


def an_episode(number: int = 0, **fields) -> EpisodeRecord:
    base = {
        "slot": 0,
        "score": float(number),
        "steps": 10,
        "duration_s": 1.0,
        "outcome": Outcome.OK,
        "reason": "",
        "episode": number,
        "remote_id": "r-1",
        "node": "node-1",
    }
    return EpisodeRecord(**{**base, **fields})


def a_report(*episodes: EpisodeRecord, steps: int = 10, **fields) -> ActorReport:
    statistics = fields.pop("statistics", {})
    sampler = SamplerReport(slot=0, state="running", steps=steps, episodes=list(episodes), **fields)
    return ActorReport(sampler=sampler, has_gradient=bool(statistics), statistics=statistics, pid=1)


def write_part(
    logdir: Path,
    *reports: ActorReport,
    ended_by: str | None = "--minutes 1 reached",
    **settings,
) -> Accounts:
    """Writes one part of a run, a report every two seconds; without an end for None."""
    config = TrainConfig(env=SPEC.id, logdir=logdir, **settings)
    plan = tiny_plan()
    accounts = Accounts(SPEC, plan.workers, seed=0)
    logdir.mkdir(parents=True, exist_ok=True)
    record = RunRecord(logdir, config, plan, now_s=50.0, at=START)
    now_s = 100.0
    for report in reports:
        accounts.note(report, now_s)
        record.note(report, accounts, now_s)
        now_s += STEP_S
    record.save(accounts.summary(now_s))
    if ended_by is None:
        # As where the process dies.
        record._episodes.close()
        record._progress.close()
    else:
        record.close(accounts, accounts.summary(now_s), ended_by=ended_by, now_s=now_s)
    return accounts
