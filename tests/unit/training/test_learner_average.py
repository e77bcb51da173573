from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from raygym.training import learner_average
from raygym.training.learner_average import Averaging, Host, PeerLost, join, kind_for

SIZE = 1000


class Group:
    """Learners in threads of this process."""

    def __init__(self, kind: Any, count: int) -> None:
        self.host = Host(kind, address="127.0.0.1", size=SIZE, num_learners=count)
        self.count = count
        self.has_to_leave = [threading.Event() for _ in range(count)]
        self.errors: list[PeerLost] = []

    def member(self, rank: int) -> Averaging:
        return join(
            self.host.meeting,
            rank,
            host=self.host if rank == 0 else None,
            has_to_leave=self.has_to_leave[rank],
        )

    def run(self, of_each: Callable[[int, Averaging], None], ranks: range | None = None) -> None:
        def one(rank: int) -> None:
            try:
                of_each(rank, self.member(rank))
            except PeerLost as error:
                self.errors.append(error)

        ranks = range(self.count) if ranks is None else ranks
        threads = [threading.Thread(target=one, args=(rank,)) for rank in ranks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)


@pytest.fixture(params=["memory", "gloo"])
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    made = Group(request.param, 3)
    yield made
    made.host.close()


def test_all_learners_get_one_mean_bit_by_bit_time_after_time(group: Group):
    given = torch.randn(20, group.count, SIZE, generator=torch.Generator().manual_seed(0))
    seen = torch.zeros_like(given)

    def run(rank: int, average: Averaging) -> None:
        for turn in range(len(given)):
            # Vectors of several lengths take turns.
            length = SIZE - turn
            vector = given[turn, rank, :length].clone()
            average(vector)
            seen[turn, rank, :length] = vector

    group.run(run)
    assert not group.errors
    for turn in range(len(given)):
        length = SIZE - turn
        expected = given[turn, :, :length].mean(0)
        assert torch.allclose(seen[turn, 0, :length], expected, atol=1e-6)
        assert (seen[turn] == seen[turn, 0]).all()


def test_a_learner_that_is_told_to_leave_does_not_wait_for_the_others():
    group = Group("memory", 2)
    all_in = threading.Barrier(2)

    def run(rank: int, average: Averaging) -> None:
        all_in.wait(30)
        if rank == 0:
            threading.Timer(0.05, group.has_to_leave[0].set).start()
            average(torch.ones(3))

    group.run(run)
    group.host.close()
    assert ["built anew" in str(error) for error in group.errors] == [True]


def test_a_learner_whose_process_ended_is_missed():
    group = Group("memory", 2)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(60)

    def run(rank: int, average: Any) -> None:
        if rank == 1:
            average._pids[1] = dead.pid
            average._ticks[1] = 1
        else:
            average(torch.ones(3))

    group.run(run)
    group.host.close()
    assert [f"process {dead.pid}" in str(error) for error in group.errors] == [True]


@pytest.mark.parametrize("kind", ["memory", "gloo"])
def test_who_does_not_come_is_not_waited_for_forever(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learner_average, "MEETING_TIMEOUT_S", 0.3)
    group = Group(kind, 2)
    group.run(lambda _rank, _average: None, range(1))
    group.host.close()
    assert len(group.errors) == 1


@pytest.mark.parametrize("kind", ["memory", "gloo"])
def test_who_waits_for_others_can_be_called_away(kind: str):
    group = Group(kind, 2)
    threading.Timer(0.05, group.has_to_leave[0].set).start()
    group.run(lambda _rank, _average: None, range(1))
    group.host.close()
    assert ["built anew" in str(error) for error in group.errors] == [True]


def test_the_block_has_no_name_once_the_host_is_closed():
    host = Host("memory", address="", size=SIZE, num_learners=2)
    assert Path(host.meeting.place).exists()
    host.close()
    assert not Path(host.meeting.place).exists()
    with pytest.raises(PeerLost, match="is gone"):
        join(host.meeting, 0, has_to_leave=threading.Event())


def test_learners_on_several_machines_meet_over_the_network(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learner_average.platform, "machine", lambda: "x86_64")
    assert kind_for({"here"}) == "memory"
    assert kind_for({"here", "there"}) == "gloo"
    monkeypatch.setattr(learner_average.platform, "machine", lambda: "aarch64")
    assert kind_for({"here"}) == "gloo"
