from __future__ import annotations

import io

import pytest
from rich.console import Console

from raygym.core import Outcome
from raygym.service.reports import ActorReport, EpisodeRecord, SamplerReport
from raygym.training.accounts import Accounts
from raygym.training.table import LINE_EVERY_S, Display, line
from tests.support.plans import SPEC


@pytest.fixture
def accounts() -> Accounts:
    made = Accounts(SPEC, 2, seed=0)
    episode = EpisodeRecord(
        slot=0, score=10.0, steps=5, duration_s=1.0, outcome=Outcome.OK, reason=""
    )
    sampler = SamplerReport(
        slot=0,
        state="running",
        steps=120,
        episodes=[episode],
        times_ms={"reaction_time_ms": [20.0, 30.0]},
    )
    made.note(ActorReport(sampler=sampler, has_gradient=True, statistics={}, pid=1), 0.0)
    retrying = SamplerReport(slot=1, state="retrying", error="RemoteUnreachable: [nobody] there")
    made.note(ActorReport(sampler=retrying, has_gradient=False, statistics={}, pid=2), 0.0)
    return made


def console(*, is_terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=is_terminal, width=100), file


def test_the_line_says_how_it_goes(accounts: Accounts):
    assert line(accounts, 60.0) == (
        "1.0 min  steps 120  2.0 steps/s  episodes 1  score 10.0 (100 % of ceiling)  "
        "reaction 25.0/29.5 ms  remotes 1/2 healthy, 0 lost"
    )


def test_without_a_terminal_there_are_plain_lines_now_and_then(accounts: Accounts):
    to, file = console(is_terminal=False)
    display = Display(accounts, to, now_s=0.0)
    display.tick(LINE_EVERY_S - 0.1)
    assert file.getvalue() == ""
    display.tick(LINE_EVERY_S)
    display.tick(LINE_EVERY_S + 0.1)
    display.say("[worker] 1 is back")
    display.close(20.0)
    lines = file.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("0.2 min  steps 120")
    assert lines[1] == "[worker] 1 is back"
    assert "\x1b" not in file.getvalue()


def test_on_a_terminal_there_is_a_row_for_each_worker_and_the_errors_below(accounts: Accounts):
    to, file = console(is_terminal=True)
    display = Display(accounts, to, now_s=0.0)
    display.tick(60.0)
    display.close(60.0)
    display.close(60.0)
    text = file.getvalue()
    assert "test.Tiny-v0" in text
    assert "running" in text
    assert "retrying" in text
    assert "25.0 / 29.5" in text
    assert "worker 1: RemoteUnreachable: [nobody] there" in text
