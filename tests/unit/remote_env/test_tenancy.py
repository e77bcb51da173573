from __future__ import annotations

from raygym.remote_env.tenancy import Tenancy
from tests.support.fake_store import FakeClock
from tests.unit.remote_env.fakes import FakeRemotes


class Counting(FakeRemotes):
    asked = 0

    def holds(self, remote_id: str) -> bool:
        self.asked += 1
        return super().holds(remote_id)


def test_the_backend_is_asked_at_most_once_a_second() -> None:
    clock, backend = FakeClock(), Counting()
    tenancy = Tenancy(backend, "r-1", clock=clock)
    backend.taken.add("r-1")
    assert (tenancy.lost(), backend.asked) == ("", 0)
    clock.pass_s(1)
    assert tenancy.lost().startswith("the lease of r-1 was lost")
    assert (tenancy.lost(), backend.asked) == ("", 1)


def test_an_episode_counts_once_it_had_a_step_and_a_worn_remote_is_told() -> None:
    clock, backend = FakeClock(), FakeRemotes()
    tenancy = Tenancy(backend, "r-1", clock=clock)
    tenancy.begin_episode()
    assert not tenancy.is_worn_after(0)
    assert backend.episodes == []
    assert not tenancy.is_worn_after(7)
    backend.worn.add("r-1")
    assert tenancy.is_worn_after(9)
    assert backend.episodes == [("r-1", 7), ("r-1", 9)]
