from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raygym.errors import LeaseExpired, LeaseHeld, RuntimeMismatch
from raygym.leases.protocols import Holder, Lease, Want
from raygym.service import registry as registry_module
from raygym.service.keepers import KeeperUnreachable
from raygym.service.node_keeper import NodeKeeper
from raygym.service.registry import RegistryActor
from tests.support.clocks import Clock
from tests.support.directory_store import DirectoryStore
from tests.support.node_keepers import LocalKeepers, ended, lease_file, living, other

CLUSTER = "default"
TTL_S = 15.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stores(tmp_path: Path) -> dict[str, DirectoryStore]:
    """The containers of two nodes."""
    roots = {node: tmp_path / node for node in ("n1", "n2")}
    for root in roots.values():
        root.mkdir()
    return {node: DirectoryStore(root) for node, root in roots.items()}


@pytest.fixture
def keepers(stores, clock) -> LocalKeepers:
    def keeper(node: str) -> NodeKeeper:
        return NodeKeeper(lambda: stores[node], node, CLUSTER, reap_every_s=None, clock=clock)

    return LocalKeepers({node: keeper(node) for node in stores})


@pytest.fixture
def start(keepers, clock, monkeypatch) -> Callable[..., RegistryActor]:
    """Starts a registry, or starts it again; without a loop."""
    monkeypatch.setattr(registry_module, "DYING_S", 0.1)

    def start_registry(**options: Any) -> RegistryActor:
        options = {"expire_every_s": None, "clock": clock, **options}
        return RegistryActor(lambda: keepers, CLUSTER, **options)

    return start_registry


def want(client_id: str = "a", *, holder: Holder | None = None, **options: Any) -> Want:
    return Want(
        client_id=client_id,
        runtime="flashgames",
        holder=holder or living("n1"),
        ttl_s=TTL_S,
        **{"keep_s": 60.0, **options},
    )


def make(registry: RegistryActor, stores: dict[str, DirectoryStore], lease: Lease) -> None:
    """Does what the receiver of a grant does."""
    stores[lease.node].create(
        lease.remote_id,
        lease.runtime,
        client_id=lease.client_id,
        variant=lease.variant,
        cluster=CLUSTER,
        lease=lease.as_file(),
    )
    registry.confirm(lease)


def test_a_client_gets_its_remote_again_until_it_is_given_back_and_expires(start, stores, clock):
    registry = start()
    lease = registry.grant(want())
    assert not lease.is_ready
    make(registry, stores, lease)
    clock.now_s += 10
    lease = registry.renew(lease)
    assert lease.expires_s == clock.now_s + TTL_S
    lease = registry.rebind(lease, "flashgames.NeonRace-v0")
    kept = registry.release(lease)
    assert kept.expires_s == clock.now_s + 60
    assert registry.grant(want(holder=other("n1"))).remote_id == lease.remote_id
    assert [row.remote_id for row in registry.rows()] == [lease.remote_id]
    clock.now_s += TTL_S
    assert [row.remote_id for row in registry.expire()] == [lease.remote_id]
    assert registry.rows() == []
    assert stores["n1"].running() == []


def test_a_release_that_was_sent_twice_answers_the_same_twice(start, stores):
    registry = start()
    lease = registry.grant(want())
    make(registry, stores, lease)
    assert registry.release(lease) == registry.release(lease)
    assert registry.rows()[0].holder is None
    newer = registry.grant(want())
    assert registry.release(lease) is None
    assert registry.rows() == [replace(newer, obsolete=())]


def test_a_grant_that_was_sent_twice_names_one_remote(start):
    registry = start()
    first, second = registry.grant(want()), registry.grant(want())
    assert first.remote_id == second.remote_id
    assert second.token > first.token
    assert len(registry.rows()) == 1


def test_a_live_holder_is_named_to_the_next(start):
    registry = start()
    registry.grant(want())
    with pytest.raises(LeaseHeld) as caught:
        registry.grant(want(holder=other("n2")))
    assert (caught.value.node, caught.value.pid) == ("n1", living("n1").pid)


def test_a_holder_that_ends_meanwhile_is_waited_for(start, keepers, monkeypatch):
    monkeypatch.setattr(registry_module, "DYING_S", 30.0)
    registry = start()
    first = registry.grant(want())
    verdicts = [False, False, True]
    monkeypatch.setattr(keepers, "is_dead", lambda holder: verdicts.pop(0))
    assert registry.grant(want(holder=other("n1"))).remote_id == first.remote_id
    assert verdicts == []


def test_a_dead_holder_is_followed_at_once(start, stores):
    registry = start()
    first = registry.grant(want(holder=ended("n1")))
    make(registry, stores, first)
    second = registry.grant(want())
    assert second.remote_id == first.remote_id
    assert second.is_ready
    with pytest.raises(LeaseExpired):
        registry.renew(first)


@pytest.mark.parametrize("how", ["away", "dead"])
def test_a_holder_on_a_node_that_is_silent_keeps_its_lease(start, keepers, clock, how):
    registry = start()
    registry.grant(want(holder=ended("n2")))
    getattr(keepers, how).add("n2")
    with pytest.raises(LeaseHeld):
        registry.grant(want())
    clock.now_s += TTL_S
    assert registry.grant(want()).node == "n1"


def test_a_client_that_moved_to_another_node_gets_a_new_remote_there(start, stores, caplog):
    registry = start()
    first = registry.grant(want())
    make(registry, stores, first)
    registry.release(first)
    second = registry.grant(want(holder=living("n2")))
    assert (second.node, second.is_ready, second.obsolete) == ("n2", False, ())
    assert second.remote_id != first.remote_id
    assert stores["n1"].running() == []
    assert len(registry.rows()) == 1
    assert f"registry.moved client_id=a remote_id={first.remote_id} from=n1 to=n2" in caplog.text


def test_a_move_does_not_wait_for_a_node_that_is_gone(start, stores, keepers):
    registry = start()
    first = registry.grant(want())
    make(registry, stores, first)
    registry.release(first)
    keepers.dead.add("n1")
    assert registry.grant(want(holder=living("n2"))).node == "n2"


def test_a_remote_of_another_variant_is_removed_by_whom_it_is_near(start, stores):
    registry = start()
    here, there = registry.grant(want("here")), registry.grant(want("there", holder=ended("n2")))
    for lease in (here, there):
        make(registry, stores, lease)
    lockstep = {"variant": ("--mode", "lockstep")}
    assert registry.grant(want("here", **lockstep)).obsolete == (here.remote_id,)
    assert registry.grant(want("there", **lockstep)).obsolete == ()
    assert stores["n1"].running() == [here.remote_id]
    assert stores["n2"].running() == []


def test_spares_are_handed_over_on_their_own_node(start, stores):
    registry = start()
    spare = registry.add_spare("flashgames", (), living("n1"), TTL_S)
    make(registry, stores, spare)
    elsewhere = registry.grant(want("b", holder=living("n2")))
    assert elsewhere.remote_id != spare.remote_id
    claimed = registry.grant(want("c"))
    assert (claimed.remote_id, claimed.is_ready) == (spare.remote_id, True)
    with pytest.raises(LeaseExpired):
        registry.renew(spare)


def test_another_runtime_is_refused(start):
    registry = start()
    registry.grant(want())
    with pytest.raises(RuntimeMismatch):
        registry.grant(replace(want(), runtime="wob"))


def test_a_forgotten_row_is_gone(start):
    registry = start()
    lease = registry.grant(want())
    registry.forget(lease.remote_id, lease.token - 1)
    assert len(registry.rows()) == 1
    registry.forget(lease.remote_id, lease.token)
    assert registry.rows() == []


def test_after_a_restart_it_knows_what_the_nodes_know(start, stores, clock):
    before = start()
    held, kept, lost = (before.grant(want(name)) for name in ("held", "kept", "lost"))
    for lease in (held, kept, lost):
        make(before, stores, lease)
    released = before.release(kept)
    stores["n1"].write_lease(kept.remote_id, released.as_file())
    clock.now_s += 10
    held = before.renew(held)
    stores["n1"].write_lease(held.remote_id, held.as_file())
    clock.now_s += 10
    after = start()
    rows = {row.client_id: row for row in after.rows()}
    assert set(rows) == {"held", "kept"}
    assert rows["held"].holder == held.holder
    assert (rows["held"].token, rows["held"].expires_s) == (held.token, held.expires_s)
    assert rows["kept"].holder is None
    assert after.renew(held).expires_s == clock.now_s + TTL_S
    with pytest.raises(LeaseHeld):
        after.grant(want("held", holder=other("n1")))
    assert after.grant(want("kept")).remote_id == kept.remote_id
    with pytest.raises(LeaseExpired):
        after.renew(lost)


def test_tokens_grow_over_a_restart_that_finds_nothing(start, clock):
    before = start()
    tokens = [before.grant(want(str(n))).token for n in range(3)]
    clock.now_s += 1
    assert start().grant(want()).token > max(tokens)


def test_containers_of_other_clusters_are_not_its_own(start, stores, clock):
    stores["n1"].create(
        "r-other",
        "flashgames",
        client_id="a",
        variant=(),
        cluster="other",
        lease=lease_file(clock.now_s + 100),
    )
    registry = start()
    assert registry.keeps() == CLUSTER
    assert registry.rows() == []
    assert registry.grant(want()).remote_id != "r-other"


def test_a_remote_that_was_in_the_making_at_a_restart_is_confirmed_after_it(start, stores, clock):
    lease = start().grant(want())
    clock.now_s += 1
    after = start()
    with pytest.raises(LeaseExpired):
        after.confirm(lease)
    make(after, stores, lease)
    assert [(row.remote_id, row.is_ready) for row in after.rows()] == [(lease.remote_id, True)]
    assert after.release(lease).holder is None


def test_a_remote_that_another_process_got_meanwhile_is_not_taken_back(start, stores, clock):
    lease = start().grant(want())
    clock.now_s += 1
    after = start()
    newer = after.grant(want(holder=other("n1")))
    with pytest.raises(LeaseExpired):
        make(after, stores, lease)
    assert [row.remote_id for row in after.rows()] == [newer.remote_id]
    assert after.release(lease) is None


def test_a_lease_of_its_own_time_that_expired_is_not_looked_for(start, stores, keepers, clock):
    registry = start()
    lease = registry.grant(want())
    make(registry, stores, lease)
    clock.now_s += TTL_S
    keepers.surveys.clear()
    with pytest.raises(LeaseExpired):
        registry.renew(lease)
    assert keepers.surveys == []


def test_a_node_is_surveyed_before_the_first_grant_to_it(start, stores, keepers, clock, caplog):
    before = start()
    lease = before.grant(want(holder=living("n2")))
    make(before, stores, lease)
    clock.now_s += 1
    keepers.away.add("n2")
    after = start()
    assert after.rows() == []
    assert "registry.no_survey node=n2" in caplog.text
    with pytest.raises(KeeperUnreachable):
        after.grant(want(holder=living("n2")))
    with pytest.raises(KeeperUnreachable):
        after.renew(lease)
    after.learn_nodes()
    assert caplog.text.count("registry.no_survey") == 1
    keepers.away.clear()
    assert after.grant(want(holder=living("n2"))).remote_id == lease.remote_id


def test_a_node_is_surveyed_once_however_many_ask(start, keepers):
    keepers.away.add("n1")
    registry = start()
    keepers.away.clear()
    keepers.surveys.clear()
    barrier = threading.Barrier(4, timeout=30)

    def ask(name: str) -> None:
        barrier.wait()
        registry.grant(want(name))

    threads = [threading.Thread(target=ask, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert keepers.surveys == ["n1"]
    assert len(registry.rows()) == 4


def test_a_node_that_comes_later_is_surveyed_soon(start, stores, keepers):
    before = start()
    make(before, stores, before.grant(want(holder=living("n2"))))
    keepers.dead.add("n2")
    after = start()
    assert after.rows() == []
    keepers.dead.clear()
    after.learn_nodes()
    assert [row.node for row in after.rows()] == ["n2"]


def test_what_cannot_be_removed_is_left_to_the_keeper(start, stores, keepers, clock, caplog):
    registry = start()
    lease = registry.grant(want(holder=living("n2")))
    make(registry, stores, lease)
    keepers.away.add("n2")
    clock.now_s += TTL_S
    assert len(registry.expire()) == 1
    assert f"registry.not_removed remote_id={lease.remote_id}" in caplog.text
    assert stores["n2"].running() == [lease.remote_id]


def test_other_calls_go_on_while_a_node_is_surveyed(start, keepers):
    registry = start()
    lease = registry.grant(want())
    keepers.dead.add("n2")
    registry.learn_nodes()
    keepers.dead.clear()
    is_asked, may_answer = threading.Event(), threading.Event()

    def stall() -> None:
        is_asked.set()
        assert may_answer.wait(30)

    keepers.on_survey = stall
    thread = threading.Thread(target=registry.learn_nodes)
    thread.start()
    try:
        assert is_asked.wait(30)
        assert registry.renew(lease).remote_id == lease.remote_id
    finally:
        may_answer.set()
        thread.join(30)


def test_its_loops_expire_and_learn_and_survive_errors(start, stores, keepers, clock, monkeypatch):
    before = start()
    make(before, stores, before.grant(want("b", holder=living("n2"))))
    keepers.away.add("n2")
    registry = start(expire_every_s=0.01)
    make(registry, stores, registry.grant(want()))
    problems = [ValueError("a bug"), KeeperUnreachable("away")]
    nodes = keepers.nodes

    def list_nodes() -> Any:
        if problems:
            raise problems.pop()
        keepers.away.clear()
        return nodes()

    monkeypatch.setattr(keepers, "nodes", list_nodes)
    eventually(lambda: {row.node for row in registry.rows()} == {"n1", "n2"})
    assert problems == []
    clock.now_s += TTL_S
    eventually(lambda: [store.running() for store in stores.values()] == [[], []])
    registry.close()
    registry.close()


def eventually(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
