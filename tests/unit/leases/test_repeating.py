from __future__ import annotations

import threading

from raygym.leases.repeating import Repeating

DEADLINE_S = 60.0
NEVER_S = 3600.0


class Rounds:
    """A task that counts its rounds and can be waited for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.count = 0
        self._error = error
        self._came = threading.Semaphore(0)

    def __call__(self) -> None:
        self.count += 1
        self._came.release()
        if self._error is not None:
            raise self._error

    def await_one(self) -> bool:
        return self._came.acquire(timeout=DEADLINE_S)


def test_an_eager_task_runs_at_once_and_again_when_nudged():
    task = Rounds()
    repeating = Repeating("t", task, interval_s=NEVER_S, is_eager=True)
    repeating.start()
    assert task.await_one()
    repeating.nudge()
    assert task.await_one()
    repeating.stop(timeout_s=DEADLINE_S)
    assert task.count == 2


def test_a_task_comes_again_after_its_interval():
    task = Rounds()
    repeating = Repeating("t", task, interval_s=0.001)
    repeating.start()
    assert all(task.await_one() for _ in range(3))
    repeating.stop(timeout_s=DEADLINE_S)


def test_a_task_that_fails_is_logged_and_comes_again(caplog):
    task = Rounds(OSError("no disk"))
    repeating = Repeating("beat", task, interval_s=0.001)
    repeating.start()
    assert all(task.await_one() for _ in range(3))
    repeating.stop(timeout_s=DEADLINE_S)
    assert "task.failed name=beat cause=OSError('no disk')" in caplog.text


def threads(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def test_starting_twice_makes_one_thread():
    repeating = Repeating("started twice", Rounds(), interval_s=NEVER_S)
    repeating.start()
    repeating.start()
    assert threads("started twice") == 1
    repeating.stop(timeout_s=DEADLINE_S)
    assert threads("started twice") == 0


def test_what_was_stopped_does_not_start():
    task = Rounds()
    repeating = Repeating("stopped", task, interval_s=0.001, is_eager=True)
    repeating.stop(timeout_s=DEADLINE_S)
    repeating.start()
    assert threads("stopped") == 0
    assert task.count == 0


def test_a_task_may_stop_itself():
    done = threading.Event()

    def task() -> None:
        repeating.stop(timeout_s=DEADLINE_S)
        done.set()

    repeating = Repeating("t", task, interval_s=NEVER_S, is_eager=True)
    repeating.start()
    assert done.wait(DEADLINE_S)


def test_a_stop_does_not_wait_for_a_round_that_hangs():
    began, go_on = threading.Event(), threading.Event()

    def task() -> None:
        began.set()
        go_on.wait(DEADLINE_S)

    repeating = Repeating("t", task, interval_s=NEVER_S, is_eager=True)
    repeating.start()
    assert began.wait(DEADLINE_S)
    repeating.stop(timeout_s=0.0)
    assert not go_on.is_set()
    go_on.set()
    repeating.stop(timeout_s=DEADLINE_S)
