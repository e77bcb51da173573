from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from raygym.errors import (
    ConfigError,
    LeaseExpired,
    LeaseHeld,
    MissingDependency,
    RemoteFailedToStart,
    RemoteUnreachable,
    RuntimeMismatch,
)
from raygym.leases import leased_backend
from raygym.leases.file_registry import FileRegistry
from raygym.leases.leased_backend import LeasedBackend
from raygym.leases.protocols import Holder, Want
from raygym.leases.recycling import Recycling
from raygym.leases.repeating import Repeating
from tests.support.fake_store import FakeClock, FakeStore

DEADLINE_S = 60.0
ALICE = Holder(node="host", pid=11, pid_namespace="", started_ticks=0)
BOB = replace(ALICE, pid=22)


class ByHand(Repeating):
    """A task that the test runs itself."""

    def start(self) -> None:
        pass


class World:
    """One engine and one registry, and processes that use them."""

    def __init__(self, directory) -> None:
        self.clock = FakeClock()
        self.store = FakeStore(self.clock)
        self.dead: set[Holder] = set()
        self.registry = FileRegistry(
            directory,
            clock=self.clock,
            survey=lambda: self.store.survey("local"),
            is_dead=self.dead.__contains__,
        )
        self.backends: list[LeasedBackend] = []
        self.said: list[str] = []

    def process(self, holder: Holder = ALICE, **settings) -> LeasedBackend:
        backend = LeasedBackend(
            self.store,
            self.registry,
            holder=holder,
            clock=self.clock,
            say=self.said.append,
            **{"ttl_s": 15.0, "keep_s": 60.0, **settings},
        )
        self.backends.append(backend)
        return backend

    def die(self, backend: LeasedBackend, holder: Holder = ALICE) -> None:
        """A process that is killed renews nothing and says nothing."""
        self.dead.add(holder)
        backend._holding._held.clear()

    def pass_renewing(self, seconds: int, *backends: LeasedBackend) -> None:
        for _ in range(seconds):
            self.clock.pass_s(1)
            for backend in backends:
                backend.renew()


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    monkeypatch.setattr(leased_backend, "Repeating", ByHand)
    world = World(tmp_path)
    yield world
    for backend in world.backends:
        backend.close()


def test_a_first_start_makes_a_container_and_holds_it(world):
    backend = world.process(env_id="flashgames.DuskDrive-v0", variant=("--mode", "realtime"))
    remote = backend.start("flashgames", client_id="worker-0")
    assert list(backend.list()) == [remote]
    assert world.store.running() == [remote.id]
    (row,) = world.registry.rows()
    assert (row.remote_id, row.holder, row.is_ready) == (remote.id, ALICE, True)
    file = world.store.lease(remote.id)
    assert (file.token, file.client_id, file.variant) == (row.token, "worker-0", row.variant)
    assert (file.env_id, file.expires_unix_s) == ("flashgames.DuskDrive-v0", row.expires_s)
    assert Holder(**file.holder) == ALICE
    assert backend.log_tail(remote.id) == f"log of {remote.id}"
    assert f"worker-0: remote {remote.id} (flashgames) made in " in world.said[0]


def test_a_lease_is_named_by_its_remote_and_token_while_it_is_held(world):
    backend = world.process()
    remote = backend.start("flashgames", client_id="worker-0")
    lease = world.store.lease(remote.id)
    assert backend.lease_id(remote.id) == f"{remote.id}:{lease.token}"
    backend.remove(remote.id)
    assert backend.lease_id(remote.id) == ""


def test_a_steady_client_gets_its_remote_back_after_its_process_ended(world):
    first = world.process()
    remote = first.start("flashgames", client_id="worker-0")
    first.close()
    world.clock.pass_s(59)
    assert world.process(BOB).start("flashgames", client_id="worker-0") == remote
    assert world.store.created == [remote.id]
    assert "taken over" in world.said[-1]


def test_a_steady_client_gets_its_remote_back_at_once_after_its_process_was_killed(world):
    first = world.process()
    remote = first.start("flashgames", client_id="worker-0")
    world.die(first)
    assert world.process(BOB).start("flashgames", client_id="worker-0") == remote


def test_a_steady_client_gets_its_remote_back_after_the_registry_was_lost(world, tmp_path):
    first = world.process()
    remote = first.start("flashgames", client_id="worker-0")
    (tmp_path / "registry.json").unlink()
    first.renew()
    assert list(first.list()) == [remote]
    first.close()
    (tmp_path / "registry.json").unlink()
    assert world.process(BOB).start("flashgames", client_id="worker-0") == remote


def test_a_remote_that_nobody_holds_is_gone_after_its_time(world):
    first = world.process()
    first.start("flashgames", client_id="worker-0")
    world.die(first)
    world.clock.pass_s(15)
    assert world.store.running() == []
    assert world.process(BOB).reap() != []
    assert list(world.registry.rows()) == []


def test_renewals_keep_a_remote_for_as_long_as_its_process_lives(world):
    backend = world.process()
    remote = backend.start("flashgames", client_id="worker-0")
    world.pass_renewing(100, backend)
    assert world.store.running() == [remote.id]
    assert list(backend.list()) == [remote]
    assert world.process(BOB).reap() == []


def test_two_live_processes_do_not_share_a_client(world):
    world.process().start("flashgames", client_id="worker-0")
    with pytest.raises(LeaseHeld, match=r"process 11 on node 'host'"):
        world.process(BOB).start("flashgames", client_id="worker-0")


@pytest.mark.parametrize("is_same_backend", [True, False])
def test_two_slots_of_one_process_do_not_share_a_client(world, is_same_backend):
    backend = world.process()
    remote = backend.start("flashgames", client_id="worker-0")
    other = backend if is_same_backend else world.process()
    with pytest.raises(ConfigError, match=r"'worker-0'.*in this process.*another client_id"):
        other.start("flashgames", client_id="worker-0")
    world.clock.pass_s(1)
    backend.renew()
    assert list(backend.list()) == [remote]


def test_a_second_start_of_a_client_does_not_overtake_the_first(world, monkeypatch):
    backend = world.process()
    grant = world.registry.grant

    def grant_while_another_asks(want):
        with pytest.raises(RemoteFailedToStart, match="is being started in this process"):
            backend.start("flashgames", client_id="worker-0")
        return grant(want)

    monkeypatch.setattr(world.registry, "grant", grant_while_another_asks)
    remote = backend.start("flashgames", client_id="worker-0")
    assert list(backend.list()) == [remote]


def test_a_slot_that_lost_its_remote_gets_another(world):
    backend = world.process()
    lost = backend.start("flashgames", client_id="worker-0")
    backend.remove(lost.id)
    assert world.store.running() == []
    remote = backend.start("flashgames", client_id="worker-0")
    assert remote.id != lost.id
    assert [row.remote_id for row in world.registry.rows()] == [remote.id]


def test_a_released_remote_is_kept_warm_and_then_goes(world):
    backend = world.process(keep_s=60.0)
    remote = backend.start("flashgames", client_id="worker-0")
    world.clock.pass_s(3)
    backend.release(remote.id)
    assert list(backend.list()) == []
    file = world.store.lease(remote.id)
    assert (file.holder, file.expires_unix_s) == (None, world.clock() + 60)
    world.pass_renewing(59, backend)
    assert world.store.running() == [remote.id]
    world.clock.pass_s(1)
    assert world.store.running() == []


def test_a_released_remote_that_is_not_to_be_kept_goes_at_once(world):
    backend = world.process(keep_s=0.0)
    remote = backend.start("flashgames", client_id="worker-0")
    backend.release(remote.id)
    assert world.store.removed == [remote.id]
    assert list(world.registry.rows()) == []


def test_unknown_ids_are_ignored(world):
    backend = world.process()
    backend.remove("r-unknown")
    backend.release("r-unknown")
    assert not backend.note_episode("r-unknown", 10, 1.0)
    assert world.store.removed == []


def test_another_runtime_raises_unless_a_second_remote_was_asked_for(world):
    first = world.process()
    first.start("flashgames", client_id="worker-0")
    with pytest.raises(RuntimeMismatch):
        first.start("wob", client_id="worker-0")
    second = world.process(BOB, on_mismatch="new").start("wob", client_id="worker-0")
    assert len(world.store.running()) == 2
    assert second.runtime == "wob"


def test_another_variant_takes_the_place_of_the_old_container(world):
    first = world.process()
    old = first.start("flashgames", client_id="worker-0")
    first.close()
    other = world.process(BOB, variant=("--mode", "lockstep"))
    new = other.start("flashgames", client_id="worker-0")
    assert world.store.running() == [new.id]
    assert world.store.removed == [old.id]


def test_an_old_container_that_cannot_be_removed_does_not_stop_the_new_one(world, caplog):
    first = world.process()
    old = first.start("flashgames", client_id="worker-0")
    first.close()
    world.store.failures["remove"] = [RemoteUnreachable("the engine is away")]
    world.process(BOB, variant=("x",)).start("flashgames", client_id="worker-0")
    assert f"remote.not_removed remote_id={old.id}" in caplog.text


def test_a_container_that_died_while_it_was_kept_is_replaced(world):
    first = world.process()
    dead = first.start("flashgames", client_id="worker-0")
    first.close()
    world.store.kill(dead.id)
    remote = world.process(BOB).start("flashgames", client_id="worker-0")
    assert remote.id != dead.id
    assert world.store.removed == [dead.id]
    assert [row.remote_id for row in world.registry.rows()] == [remote.id]


def test_one_dead_container_after_another_ends_with_an_error(world):
    backend = world.process(warm=9)
    backend._runtimes.add("flashgames")
    backend.top_up()
    world.store.failures["adopt"] = [RemoteUnreachable(f"dead {n}") for n in range(9)]
    with pytest.raises(RemoteUnreachable, match="dead 3"):
        backend.start("flashgames", client_id="worker-0")
    assert len(world.store.running()) == 5
    assert list(backend.list()) == []


@pytest.mark.parametrize("error", [RemoteFailedToStart("no"), MissingDependency("no image")])
def test_a_start_that_fails_leaves_nothing_behind(world, error):
    backend = world.process()
    world.store.failures["create"] = [error]
    with pytest.raises(type(error)):
        backend.start("flashgames", client_id="worker-0")
    assert list(world.registry.rows()) == []
    assert world.store.running() == []
    assert backend.start("flashgames", client_id="worker-0").runtime == "flashgames"


def test_a_slow_start_is_renewed_meanwhile(world):
    backend = world.process()
    world.store.on_create = lambda _: world.pass_renewing(60, backend)
    remote = backend.start("flashgames", client_id="worker-0")
    assert list(backend.list()) == [remote]
    assert world.store.lease(remote.id).expires_unix_s == world.clock() + 15


def test_a_remote_made_too_late_to_be_held_is_not_given_out(world):
    backend = world.process()
    world.store.on_create = lambda _: world.clock.pass_s(16)
    with pytest.raises((LeaseExpired, RemoteUnreachable)):
        backend.start("flashgames", client_id="worker-0")
    assert list(backend.list()) == []


def test_a_lease_that_another_process_took_is_dropped_and_its_container_left_alone(world, caplog):
    stalled = world.process()
    remote = stalled.start("flashgames", client_id="worker-0")
    world.dead.add(ALICE)
    other = world.process(BOB)
    assert other.start("flashgames", client_id="worker-0") == remote
    stalled.renew()
    assert list(stalled.list()) == []
    assert f"lease.lost remote_id={remote.id}" in caplog.text
    stalled.remove(remote.id)
    stalled.close()
    assert world.store.running() == [remote.id]
    other.renew()
    assert list(other.list()) == [remote]


@pytest.mark.parametrize("end", ["remove", "release", "close"])
@pytest.mark.parametrize("keep_s", [0.0, 60.0])
def test_ending_a_lease_that_was_lost_unseen_leaves_the_container_to_its_holder(world, end, keep_s):
    stalled = world.process(keep_s=keep_s)
    remote = stalled.start("flashgames", client_id="worker-0")
    world.dead.add(ALICE)
    other = world.process(BOB)
    other.start("flashgames", client_id="worker-0")
    file = world.store.lease(remote.id)
    getattr(stalled, end)(*([] if end == "close" else [remote.id]))
    assert world.store.running() == [remote.id]
    assert world.store.lease(remote.id) == file
    assert len(world.registry.rows()) == 1


def away(*_args, **_kwargs):
    raise OSError("the registry is away")


def test_a_registry_that_is_away_for_a_moment_costs_nothing(world, monkeypatch, caplog):
    backend = world.process()
    remote = backend.start("flashgames", client_id="worker-0")
    with monkeypatch.context() as patched:
        patched.setattr(world.registry, "renew", away)
        world.pass_renewing(14, backend)
    assert "lease.not_renewed" in caplog.text
    backend.renew()
    world.pass_renewing(14, backend)
    assert list(backend.list()) == [remote]
    assert world.store.running() == [remote.id]


def test_a_registry_that_stays_away_costs_the_lease_at_its_own_end(world, monkeypatch, caplog):
    backend = world.process()
    backend.start("flashgames", client_id="worker-0")
    monkeypatch.setattr(world.registry, "renew", away)
    world.pass_renewing(14, backend)
    assert len(backend.list()) == 1
    world.pass_renewing(1, backend)
    assert len(backend.list()) == 0
    assert ("lease.lost", logging.ERROR) in {
        (record.msg.split()[0], record.levelno) for record in caplog.records
    }


@pytest.mark.parametrize("keep_s", [0.0, 60.0])
def test_a_release_without_a_registry_or_an_engine_raises_nothing(world, monkeypatch, keep_s):
    backend = world.process(keep_s=keep_s)
    for number in range(3):
        backend.start("flashgames", client_id=f"worker-{number}")
    first, second, third = [remote.id for remote in backend.list()]
    world.store.failures = {
        name: [RemoteUnreachable("the engine is away")] for name in ("remove", "write_lease")
    }
    backend.release(first)
    for name in ("renew", "release", "forget"):
        monkeypatch.setattr(world.registry, name, away)
    backend.release(second)
    backend.remove(third)
    assert list(backend.list()) == []
    world.clock.pass_s(60)
    assert world.store.running() == []


def test_rebind_is_noted_with_the_container_kept(world):
    backend = world.process()
    remote = backend.start("flashgames", client_id="worker-0")
    backend.rebind(remote.id, "flashgames.NeonRace-v0")
    assert world.registry.rows()[0].env_id == "flashgames.NeonRace-v0"
    assert world.store.lease(remote.id).env_id == "flashgames.NeonRace-v0"
    assert world.store.created == [remote.id]
    with pytest.raises(LeaseExpired, match="r-unknown"):
        backend.rebind("r-unknown", "flashgames.NeonRace-v0")


def test_warm_spares_are_made_handed_over_and_replaced(world):
    backend = world.process(warm=2)
    first = backend.start("flashgames", client_id="worker-0")
    backend.top_up()
    backend.top_up()
    assert len(world.store.running()) == 3
    assert list(backend.list()) == [first]
    spares = {row.remote_id for row in world.registry.rows() if not row.client_id}
    assert len(spares) == 2
    second = backend.start("flashgames", client_id="worker-1")
    assert second.id in spares
    assert world.store.lease(second.id).client_id == "worker-1"
    backend.top_up()
    assert len(world.store.running()) == 4


def test_a_spare_may_be_taken_by_another_process(world, caplog):
    caplog.set_level(logging.INFO)
    maker = world.process(warm=1)
    maker.start("flashgames", client_id="worker-0")
    maker.top_up()
    taker = world.process(BOB)
    taken = taker.start("flashgames", client_id="worker-1")
    maker.renew()
    assert f"spare.taken remote_id={taken.id}" in caplog.text
    maker.close()
    world.pass_renewing(60, taker)
    assert list(taker.list()) == [taken]
    assert taken.id in world.store.running()


def test_spares_are_renewed_and_go_with_their_maker(world):
    backend = world.process(warm=2)
    remote = backend.start("flashgames", client_id="worker-0")
    backend.top_up()
    world.pass_renewing(60, backend)
    assert len(world.store.running()) == 3
    backend.close()
    assert world.store.running() == [remote.id]


@pytest.mark.parametrize("when", ["before it is made", "while it is made"])
def test_a_spare_that_close_overtakes_leaves_nothing_behind(world, monkeypatch, when):
    backend = world.process(warm=1)
    remote = backend.start("flashgames", client_id="worker-0")
    add_spare = world.registry.add_spare

    def add_spare_after_close(*arguments):
        backend.close()
        return add_spare(*arguments)

    if when == "before it is made":
        monkeypatch.setattr(world.registry, "add_spare", add_spare_after_close)
    else:
        world.store.on_create = lambda _: backend.close()
    backend.top_up()
    assert len(world.store.created) == 2
    assert world.store.running() == [remote.id]
    assert [row.remote_id for row in world.registry.rows()] == [remote.id]


def test_a_spare_that_failed_leaves_nothing_behind(world):
    backend = world.process(warm=1)
    backend.start("flashgames", client_id="worker-0")
    world.store.failures["create"] = [RemoteFailedToStart("no")]
    with pytest.raises(RemoteFailedToStart):
        backend.top_up()
    assert len(world.registry.rows()) == 1
    backend.top_up()
    assert len(world.registry.rows()) == 2


def test_a_worn_remote_is_to_be_replaced_at_the_end_of_an_episode(world):
    backend = world.process(recycling=Recycling(episodes=2))
    remote = backend.start("flashgames", client_id="worker-0")
    assert not backend.note_episode(remote.id, 10, 1.0)
    assert backend.note_episode(remote.id, 10, 1.0)
    assert world.said[-1] == f"{remote.id} is to be replaced: it played 2 episodes"
    backend.remove(remote.id)
    again = backend.start("flashgames", client_id="worker-0")
    assert again.id != remote.id
    assert not backend.note_episode(again.id, 10, 1.0)


def test_a_remote_that_grows_is_to_be_replaced(world):
    backend = world.process(recycling=Recycling(memory_mib=100))
    remote = backend.start("flashgames", client_id="worker-0")
    for memory_mib, is_worn in ((300, False), (390, False), (401, True)):
        world.store.memories[remote.id] = memory_mib
        assert backend.note_episode(remote.id, 10, 1.0) is is_worn


def test_close_gives_everything_back_once_and_starts_nothing_more(world):
    backend = world.process()
    remotes = [backend.start("flashgames", client_id=f"worker-{n}") for n in range(20)]
    backend.close()
    backend.close()
    assert list(backend.list()) == []
    assert all(row.holder is None for row in world.registry.rows())
    assert sorted(world.store.running()) == sorted(remote.id for remote in remotes)
    assert world.store.closed == 1
    with pytest.raises(RemoteFailedToStart, match="backend is closed"):
        backend.start("flashgames", client_id="worker-0")


def test_a_start_during_close_leaves_nothing_behind(world):
    backend = world.process()
    world.store.on_create = lambda _: backend.close()
    with pytest.raises((RemoteFailedToStart, RemoteUnreachable, LeaseExpired)):
        backend.start("flashgames", client_id="worker-0")
    assert world.store.running() == []
    assert list(world.registry.rows()) == []


def test_a_remote_that_was_asked_for_before_close_and_granted_after_it_goes(world, monkeypatch):
    backend = world.process()
    grant = world.registry.grant

    def grant_after_close(want):
        backend.close()
        return grant(want)

    monkeypatch.setattr(world.registry, "grant", grant_after_close)
    with pytest.raises(RemoteFailedToStart, match="backend is closed"):
        backend.start("flashgames", client_id="worker-0")
    assert len(world.store.created) == 1
    assert world.store.running() == []
    assert list(world.registry.rows()) == []


def test_close_does_not_wait_for_an_engine_that_hangs(world):
    go_on = threading.Event()
    backend = world.process(keep_s=0.0, close_timeout_s=0.05)
    backend.start("flashgames", client_id="worker-0")
    world.store.remove = lambda remote_id: go_on.wait(DEADLINE_S)
    closer = threading.Thread(target=backend.close)
    closer.start()
    closer.join(DEADLINE_S / 2)
    assert not closer.is_alive()
    go_on.set()


def test_twenty_clients_start_side_by_side(world):
    backend = world.process()
    starts = [
        threading.Thread(target=backend.start, args=("flashgames",), kwargs={"client_id": f"w-{n}"})
        for n in range(20)
    ]
    for start in starts:
        start.start()
    for start in starts:
        start.join(DEADLINE_S)
    assert len({remote.id for remote in backend.list()}) == 20
    assert len(world.store.running()) == 20


def test_settings_that_make_no_sense_are_refused_at_once(world):
    for setting in ({"warm": -1}, {"ttl_s": 0.0}, {"keep_s": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(setting))):
            world.process(**setting)


def test_a_fork_neither_uses_nor_closes_its_parents_backend(world, monkeypatch):
    backend = world.process()
    remote = backend.start("flashgames", client_id="worker-0")
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: backend._owner_pid + 1)
        with pytest.raises(ConfigError, match="is a fork"):
            backend.start("flashgames", client_id="worker-1")
        backend.close()
    assert list(backend.list()) == [remote]


CHILD = """
import sys, time
from pathlib import Path
from raygym.leases.file_registry import FileRegistry
from raygym.leases.leased_backend import LeasedBackend
from tests.support.fake_store import FakeStore

backend = LeasedBackend(FakeStore(time.time), FileRegistry(Path(sys.argv[1])))
print(backend.start("flashgames", client_id="worker-0").id, flush=True)
sys.stdin.read()
"""


def test_a_process_that_ends_gives_its_remote_back(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            remote_id = child.stdout.readline().strip()
            registry = FileRegistry(tmp_path)
            (row,) = registry.rows()
            assert (row.holder.pid, row.is_ready) == (child.pid, True)
            child.communicate(timeout=DEADLINE_S)
        finally:
            child.kill()
    (row,) = registry.rows()
    assert (row.remote_id, row.holder, row.client_id) == (remote_id, None, "worker-0")


def test_threads_renew_reap_and_make_spares(tmp_path):
    """With real threads, while the clock that leases are judged by stands still."""
    clock = FakeClock()
    store = FakeStore(clock)
    registry = FileRegistry(tmp_path, clock=clock)
    stray = registry.grant(Want(client_id="gone", runtime="wob", holder=BOB, ttl_s=15.0))
    clock.pass_s(15)
    is_renewed, is_reaped, is_spare_made = (threading.Event() for _ in range(3))
    write_lease, remove = store.write_lease, store.remove

    def note_write(remote_id, lease):
        write_lease(remote_id, lease)
        is_renewed.set()

    def note_removal(remote_id):
        remove(remote_id)
        if remote_id == stray.remote_id:
            is_reaped.set()

    store.write_lease, store.remove = note_write, note_removal
    store.on_create = lambda _: is_spare_made.set() if len(store.created) > 1 else None
    backend = LeasedBackend(store, registry, ttl_s=0.03, warm=1, clock=clock)
    remote = backend.start("flashgames", client_id="worker-0")
    assert is_renewed.wait(DEADLINE_S)
    assert is_reaped.wait(DEADLINE_S)
    assert is_spare_made.wait(DEADLINE_S)
    backend.close()
    assert store.running() == [remote.id]
    for repeating in (backend._heartbeat, backend._reaper, backend._pool):
        assert not repeating._thread.is_alive()
