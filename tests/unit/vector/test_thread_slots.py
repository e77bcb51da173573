from __future__ import annotations

import threading

import numpy as np
import pytest

from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.vector import thread_slots
from raygym.vector.slot_thread import SlotThread
from raygym.vector.supervision import Supervision
from raygym.vector.thread_slots import ThreadSlots
from tests.support.slot_envs import ENDS, HANGS, LOSES, RAISES, Made, SlotEnv

QUICK = Supervision(first_retry_s=0.0, step_timeout_s=0.05, reset_timeout_s=0.05)


@pytest.fixture
def made() -> Made:
    return Made()


@pytest.fixture
def slots(made):
    threads = ThreadSlots(made, 3)
    yield threads
    threads.close()
    assert all(env.is_closed for env in made.envs)


def all_of(slots: ThreadSlots, count: int):
    """Returns what is ready, in the order of the slots."""
    ready = slots.recv(at_least=count, timeout_s=20)
    assert len(ready.slots) == count
    order = np.argsort(ready.slots)
    return order, ready


def begun(slots: ThreadSlots) -> ThreadSlots:
    slots.reset([0, 1, 2], [7, 8, None])
    all_of(slots, 3)
    return slots


def test_each_environment_stays_in_a_thread_of_its_own(slots, made) -> None:
    begun(slots).send([0, 1, 2], [0, 0, 0])
    all_of(slots, 3)
    slots.close()
    assert {len(env.threads) for env in made.envs} == {1}
    assert len({env.thread for env in made.envs} | {threading.get_ident()}) == 4


def test_steps_and_resets_answer_as_they_come(slots) -> None:
    begun(slots)
    slots.reset([1], [4])
    slots.send(np.array([0, 2]), np.array([0, ENDS]))
    order, ready = all_of(slots, 3)
    assert ready.observations[order][:, 0, 0, 0].tolist() == [1, 10, 21]
    assert ready.is_first[order].tolist() == [False, True, False]
    assert ready.rewards[order].tolist() == [1.0, 0.0, 1.0]
    assert ready.terminated[order].tolist() == [False, False, True]
    assert ready.infos[int(order[1])]["seed"] == 4


def test_one_that_hangs_does_not_keep_the_others(slots, made) -> None:
    begun(slots).send([0, 1, 2], [HANGS, 0, 0])
    ready = slots.recv(at_least=2, timeout_s=20)
    assert sorted(ready.slots.tolist()) == [1, 2]
    assert slots.recv(timeout_s=0.0).slots.tolist() == []
    made.envs[[env.slot for env in made.envs].index(0)].released.set()
    assert slots.recv(timeout_s=20).slots.tolist() == [0]


@pytest.mark.parametrize(("action", "outcome"), [(RAISES, "env_failure"), (LOSES, "infra_failure")])
def test_a_step_that_raises_is_a_cut_row_with_the_last_observation(
    slots, made, action, outcome
) -> None:
    begun(slots).send([1], [action])
    ready = slots.recv(timeout_s=20)
    assert (ready.truncated.tolist(), ready.rewards.tolist()) == ([True], [0.0])
    assert ready.observations[0, 0, 0, 0] == 10
    assert ready.infos[0]["outcome"] == outcome
    assert slots.reports()[1].cuts == {outcome: 1}
    slots.reset([1])
    assert slots.recv(timeout_s=20).is_first.tolist() == [True]
    assert len(made.envs) == (4 if action == RAISES else 3)


@pytest.mark.parametrize("told", ["raises SystemExit", "returns too little"])
def test_a_step_that_ends_its_thread_or_makes_no_sense_is_a_cut_row_too(told: str) -> None:
    class Odd(SlotEnv):
        def step(self, action):
            if told == "raises SystemExit":
                raise SystemExit(3)
            return (self._seen(),)

    slots = ThreadSlots(Odd, 1)
    slots.reset([0])
    slots.recv(timeout_s=20)
    slots.send([0], [0])
    assert slots.recv(timeout_s=20).infos[0]["outcome"] == "env_failure"
    slots.close()


def test_a_silent_step_is_cut_and_its_environment_closed_and_made_anew(made) -> None:
    slots = ThreadSlots(made, 2, supervision=Supervision(step_timeout_s=0.05))
    slots.reset([0, 1])
    all_of(slots, 2)
    hung = next(env for env in made.envs if env.slot == 0)
    slots.send([0], [HANGS])
    ready = slots.recv(timeout_s=20)
    assert (ready.slots.tolist(), ready.truncated.tolist()) == ([0], [True])
    assert ready.infos[0]["outcome"] == "timeout"
    assert "step_timeout_s" in ready.infos[0]["reason"]
    assert hung.released.wait(20), "it was closed behind"
    slots.reset([0])
    ready = slots.recv(timeout_s=20)
    assert (ready.slots.tolist(), ready.is_first.tolist()) == ([0], [True])
    assert (slots.reports()[0].starts, slots.reports()[0].cuts) == (2, {"timeout": 1})
    slots.close()


class BackInTime(SlotThread):
    """Whose environment comes back in the moment after somebody looked how long it takes."""

    @property
    def _busy_since_s(self) -> float | None:
        since_s, self.since_s = self.since_s, None
        return since_s

    @_busy_since_s.setter
    def _busy_since_s(self, since_s: float | None) -> None:
        self.since_s = since_s


def test_a_step_that_ends_while_it_is_looked_at_is_no_fault(made, monkeypatch) -> None:
    monkeypatch.setattr(thread_slots, "SlotThread", BackInTime)
    monkeypatch.setattr(thread_slots, "_LOOK_EVERY_S", 0.02)
    slots = ThreadSlots(made, 1)
    try:
        slots.reset([0])
        slots.recv(timeout_s=20)
        slots.send([0], [HANGS])
        assert len(slots.recv(timeout_s=0.2).slots) == 0
        made.envs[0].released.set()
        assert slots.recv(timeout_s=20).infos[0].get("outcome", "ok") == "ok"
    finally:
        slots.close()


def test_a_silent_reset_is_tried_again_in_another_environment() -> None:
    hung = threading.Event()

    class Stuck(SlotEnv):
        is_first = True

        def reset(self, **kwargs):
            if Stuck.is_first:
                Stuck.is_first = False
                hung.wait(60)
            return super().reset(**kwargs)

    slots = ThreadSlots(Stuck, 1, supervision=QUICK)
    slots.reset([0], [6])
    ready = slots.recv(timeout_s=20)
    hung.set()
    assert ready.infos[0]["seed"] == 6
    assert slots.reports()[0].starts >= 2
    assert "reset_timeout_s" in slots.reports()[0].error
    slots.close()


def test_a_failed_reset_is_tried_again_until_it_works_and_quarantined_once(caplog) -> None:
    made = Made(failing=4)
    waits = Supervision(first_retry_s=0.0, longest_retry_s=0.01, quarantine_after=3)
    slots = ThreadSlots(made, 1, supervision=waits)
    slots.reset([0], [3])
    ready = slots.recv(timeout_s=20)
    assert ready.infos[0]["seed"] == 3
    told = [record for record in caplog.records if "slot.quarantined" in record.message]
    assert len(told) == 1
    assert "its log ends: boo" in told[0].message
    report = slots.reports()[0]
    assert (report.state, report.failures_in_a_row) == ("running", 0)
    slots.close()


def test_a_slot_that_backs_off_ends_at_once_when_closed() -> None:
    slots = ThreadSlots(Made(failing=9), 1, supervision=Supervision(first_retry_s=20.0))
    slots.reset([0])
    assert slots.recv(timeout_s=0.05).slots.tolist() == []
    ended = threading.Thread(target=slots.close)
    ended.start()
    ended.join(10)
    assert not ended.is_alive()


def test_one_that_became_slow_is_cut_with_its_reward_and_replaced(made, monkeypatch) -> None:
    slots = ThreadSlots(made, 1, supervision=Supervision(slow_factor=2.0))
    told = iter(["", "slow: much too"])
    monkeypatch.setattr(slots._pace, "note", lambda _slot, _seconds: next(told))
    slots.reset([0])
    slots.recv(timeout_s=20)
    for _ in range(2):
        slots.send([0], [0])
        ready = slots.recv(timeout_s=20)
    assert (ready.rewards.tolist(), ready.truncated.tolist()) == ([1.0], [True])
    assert ready.infos[0]["outcome"] == "timeout"
    assert ready.infos[0]["reason"] == "slow: much too"
    slots.reset([0])
    assert slots.recv(timeout_s=20).observations[0, 0, 0, 0] == 0
    assert len(made.envs) == 2
    slots.close()


def test_the_next_environment_is_made_once_the_abandoned_one_is_closed(made) -> None:
    seen: list[bool] = []

    def make(slot: int) -> SlotEnv:
        seen.append(all(env.is_closed for env in made.envs))
        return made(slot)

    slots = ThreadSlots(make, 1, supervision=Supervision(step_timeout_s=0.05))
    slots.reset([0])
    slots.recv(timeout_s=20)
    slots.send([0], [HANGS])
    slots.recv(timeout_s=20)
    slots.reset([0])
    slots.recv(timeout_s=20)
    assert seen == [True, True]
    slots.close()


def test_an_abandoned_environment_with_a_remote_gives_it_up(made) -> None:
    class Leased(SlotEnv):
        remotes_started, remotes_lost, remote_id = 1, 0, "r-1"

        def abandon(self) -> None:
            self.remotes_lost = 1
            self.close()

    envs: list[Leased] = []

    def make(slot: int) -> Leased:
        envs.append(Leased(slot))
        return envs[-1]

    slots = ThreadSlots(make, 1, supervision=Supervision(step_timeout_s=0.05))
    slots.reset([0])
    slots.recv(timeout_s=20)
    slots.send([0], [HANGS])
    slots.recv(timeout_s=20)
    slots.reset([0])
    slots.recv(timeout_s=20)
    report = slots.reports()[0]
    assert (report.remotes_started, report.remotes_lost, report.remote_id) == (2, 1, "r-1")
    slots.close()


def test_what_a_reset_brings_after_its_slot_was_let_go_is_given_up() -> None:
    goes_on = threading.Event()

    class Late(SlotEnv):
        has_remote = False

        def reset(self, **kwargs):
            if not envs[1:]:
                goes_on.wait(60)
                self.has_remote = True
            return super().reset(**kwargs)

        def abandon(self) -> None:
            self.has_remote = False
            given_up.release()

    envs: list[Late] = []
    given_up = threading.Semaphore(0)

    def make(slot: int) -> Late:
        envs.append(Late(slot))
        return envs[-1]

    slots = ThreadSlots(make, 1, supervision=QUICK)
    slots.reset([0])
    assert slots.recv(timeout_s=20).is_first.tolist() == [True]
    assert given_up.acquire(timeout=20), "closed behind"
    goes_on.set()
    assert given_up.acquire(timeout=20), "closed again once it had its remote"
    assert [env.has_remote for env in envs] == [False, False]
    slots.close()


def test_what_another_try_would_not_help_is_raised() -> None:
    made = Made()
    made.refusals.append(ConfigError("no such game"))
    with pytest.raises(ConfigError, match="no such game"):
        ThreadSlots(made, 1)
    made.refusals += [RemoteFailedToStart("no memory")] * 2
    with pytest.raises(RemoteFailedToStart, match="no memory"):
        ThreadSlots(made, 2)


def test_one_that_cannot_be_made_at_first_is_made_by_its_reset(made) -> None:
    made.refusals.append(RemoteFailedToStart("no memory"))
    slots = ThreadSlots(made, 2, supervision=Supervision(first_retry_s=0.0))
    slots.reset([0, 1])
    all_of(slots, 2)
    assert [picture.max() for picture in slots.render()] == [0, 1]
    slots.close()


def test_rows_of_others_are_kept_where_one_is_refused() -> None:
    class Strict(SlotEnv):
        def step(self, action):
            if action == 9:
                raise ConfigError("9 is no action")
            return super().step(action)

    slots = begun(ThreadSlots(Strict, 3))
    slots.send([0, 1, 2], [0, 9, 0])
    with pytest.raises(ConfigError, match="9 is no action"):
        slots.recv(at_least=3, timeout_s=20)
    assert sorted(slots.recv(at_least=2, timeout_s=20).slots.tolist()) == [0, 2]
    slots.send([1], [0])
    assert slots.recv(timeout_s=20).observations[0, 0, 0, 0] == 11, "its episode goes on"
    slots.close()
