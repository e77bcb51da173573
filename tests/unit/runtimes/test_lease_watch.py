"""A remote that looks after its own lease."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from raygym.remote_env.lease_file import LEASE_FILE as NEAR_END_FILE
from raygym.remote_env.lease_file import LeaseFile, write_lease
from raygym.runtimes.lease_watch import LEASE_FILE, LeaseWatch, clear

NOW_S = 1000.0
DEADLINE_S = 60.0


def lease(expires_unix_s: float) -> LeaseFile:
    return LeaseFile(token=1, client_id="c", runtime="r", expires_unix_s=expires_unix_s)


class Clock:
    """Tells the time that a test sets, and when it was asked."""

    def __init__(self) -> None:
        self.now_s = NOW_S
        self.looks = threading.Semaphore(0)

    def __call__(self) -> float:
        self.looks.release()
        return self.now_s

    def await_looks(self, count: int) -> None:
        for _ in range(count):
            assert self.looks.acquire(timeout=DEADLINE_S)


def watch_until_over(
    directory: Path, grace_s: float, clock: Clock, meanwhile: Callable[[], None] = lambda: None
) -> str:
    """Runs a watch to its end; ``meanwhile`` is called after its first looks."""

    async def run() -> str:
        over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        watch = LeaseWatch(
            directory,
            grace_s,
            over.set_result,
            unix_time=clock,
            period_s=0.001,
            end=not_this_process,
        )
        try:
            await asyncio.to_thread(clock.await_looks, 5)
            assert not over.done()
            meanwhile()
            return await asyncio.wait_for(over, DEADLINE_S)
        finally:
            watch.close()

    return asyncio.run(run())


def not_this_process(code: int) -> None:
    """What a watch would end here runs the other tests too."""
    raise AssertionError(f"ended with {code}")


def test_both_ends_mean_the_same_file():
    assert LEASE_FILE == NEAR_END_FILE


def test_without_a_lease_it_ends_after_the_grace(tmp_path: Path):
    clock = Clock()

    def pass_time() -> None:
        clock.now_s = NOW_S + 30.0

    assert watch_until_over(tmp_path, 30.0, clock, pass_time) == "nobody has taken it"


def test_it_ends_when_the_lease_runs_out_unless_that_was_renewed(tmp_path: Path):
    clock = Clock()
    write_lease(tmp_path, lease(NOW_S + 5))

    def renew_and_wait() -> None:
        write_lease(tmp_path, lease(NOW_S + 100))
        clock.now_s = NOW_S + 50
        clock.await_looks(5)
        clock.now_s = NOW_S + 101

    assert "ended 1.0 s ago" in watch_until_over(tmp_path, 0.5, clock, renew_and_wait)


def test_a_lease_that_is_renewed_in_the_middle_of_a_look_goes_on(tmp_path: Path):
    write_lease(tmp_path, lease(NOW_S + 5))
    clock = Clock()
    times = iter([NOW_S, NOW_S])

    def standing_still_meanwhile() -> float:
        if next(times, None) is None:
            write_lease(tmp_path, lease(NOW_S + 100))
            clock.now_s = NOW_S + 50
        return clock()

    async def run() -> None:
        watch = LeaseWatch(
            tmp_path,
            0.5,
            lambda _: None,
            unix_time=standing_still_meanwhile,
            period_s=0.001,
            end=not_this_process,
        )
        try:
            await asyncio.to_thread(clock.await_looks, 10)
            assert not watch.is_over
        finally:
            watch.close()

    asyncio.run(run())


@pytest.mark.parametrize("text", ["", "[]", '{"expires_unix_s": null}', '{"expires_unix_s": NaN}'])
def test_a_lease_that_makes_no_sense_is_none(tmp_path: Path, text: str):
    (tmp_path / LEASE_FILE).write_text(text)
    clock = Clock()

    def pass_time() -> None:
        clock.now_s = NOW_S + 3.0

    assert "ended" in watch_until_over(tmp_path, 3.0, clock, pass_time)


def test_a_lease_that_was_deleted_still_runs_out_when_it_said(tmp_path: Path):
    clock = Clock()
    write_lease(tmp_path, lease(NOW_S + 5))

    def delete() -> None:
        (tmp_path / LEASE_FILE).unlink()
        clock.now_s = NOW_S + 5

    assert watch_until_over(tmp_path, 100.0, clock, delete) == "nobody has taken it"


def test_closing_after_the_end_clears_all_but_the_log(tmp_path: Path):
    (tmp_path / "profile").mkdir()
    for name in ("remote.log", "password", "profile/cache", LEASE_FILE):
        (tmp_path / name).write_text("{}")
    clock = Clock()

    def pass_time() -> None:
        clock.now_s = NOW_S + 3.0

    watch_until_over(tmp_path, 3.0, clock, pass_time)
    assert [path.name for path in tmp_path.iterdir()] == ["remote.log"]


def test_closing_before_the_end_leaves_everything(tmp_path: Path):
    write_lease(tmp_path, lease(NOW_S + 5))

    async def run() -> None:
        LeaseWatch(
            tmp_path, 1.0, pytest.fail, unix_time=Clock(), period_s=0.001, end=not_this_process
        ).close()

    asyncio.run(run())
    assert json.loads((tmp_path / LEASE_FILE).read_text())["client_id"] == "c"


def test_a_process_that_does_not_end_by_itself_is_ended(tmp_path: Path):
    (tmp_path / "password").write_text("secret")
    ended = threading.Event()
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    async def run() -> None:
        LeaseWatch(tmp_path, 0.0, lambda _: None, period_s=0.001, patience_s=0.001, end=end)
        assert await asyncio.to_thread(ended.wait, DEADLINE_S)

    asyncio.run(run())
    assert codes == [0]
    assert list(tmp_path.iterdir()) == []


def test_without_a_grace_nothing_is_watched(tmp_path: Path):
    before = threading.active_count()

    async def run() -> None:
        watch = LeaseWatch(tmp_path, None, pytest.fail)
        assert threading.active_count() == before
        watch.close()

    asyncio.run(run())


def test_clearing_removes_links_and_not_what_they_point_to(tmp_path: Path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("")
    directory = tmp_path / "remote"
    directory.mkdir()
    (directory / "link").symlink_to(precious)
    clear(directory)
    assert list(directory.iterdir()) == []
    assert (precious / "file").exists()


def test_clearing_a_directory_that_is_gone_does_nothing(tmp_path: Path):
    clear(tmp_path / "gone")
