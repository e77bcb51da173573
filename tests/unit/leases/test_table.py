from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest

from raygym.errors import LeaseExpired, LeaseHeld, RuntimeMismatch
from raygym.leases.protocols import Found, Holder, Want
from raygym.leases.table import LeaseTable, Making

NOW_S = 1000.0
ALICE = Holder(node="host-a", pid=11, pid_namespace="pid:[1]", started_ticks=5)
BOB = replace(ALICE, node="host-b", pid=22)
WANT = Want(client_id="worker-3", runtime="flashgames", holder=ALICE, ttl_s=15.0, keep_s=60.0)
LOCKSTEP = ("--mode", "lockstep")


def making(*ids: str, dead: tuple[Holder, ...] = (), node: str = "host-a") -> Making:
    return Making(new_id=iter(ids).__next__, is_dead=dead.__contains__, node=node)


def held(table: LeaseTable, remote_id: str = "r-1", want: Want = WANT, now_s: float = NOW_S):
    """Grants and confirms."""
    lease = table.grant(want, making(remote_id), now_s=now_s)
    table.confirm(lease, now_s=now_s)
    return replace(lease, is_ready=True)


def spare(table: LeaseTable, remote_id: str = "r-9", *, variant=(), node="host-a", is_ready=True):
    lease = table.add_spare(
        "flashgames",
        variant,
        holder=BOB,
        ttl_s=15.0,
        remote_id=remote_id,
        node=node,
        now_s=NOW_S,
    )
    if is_ready:
        table.confirm(lease, now_s=NOW_S)
    return lease


def test_a_first_grant_is_a_new_remote_that_is_not_ready():
    lease = LeaseTable().grant(replace(WANT, env_id="e"), making("r-1"), now_s=NOW_S)
    assert (lease.remote_id, lease.token, lease.is_ready) == ("r-1", 1, False)
    assert (lease.holder, lease.node, lease.env_id) == (ALICE, "host-a", "e")
    assert (lease.granted_s, lease.renewed_s, lease.expires_s) == (NOW_S, NOW_S, NOW_S + 15)


def test_a_create_that_was_sent_twice_makes_one_remote():
    table = LeaseTable()
    first = table.grant(WANT, making("r-1"), now_s=NOW_S)
    again = table.grant(WANT, making(), now_s=NOW_S)
    assert (again.remote_id, again.is_ready) == ("r-1", False)
    assert again.token > first.token
    assert len(table.rows()) == 1


def test_the_same_process_gets_its_remote_again_with_a_new_token():
    table = LeaseTable()
    first = held(table)
    again = table.grant(WANT, making(), now_s=NOW_S + 1)
    assert (again.remote_id, again.is_ready) == ("r-1", True)
    with pytest.raises(LeaseExpired, match=r"granted anew \(token 2, this one is 1\)"):
        table.renew(first, now_s=NOW_S + 1)


def test_a_steady_client_gets_a_remote_back_that_was_kept_warm():
    table = LeaseTable()
    kept = table.release(held(table), now_s=NOW_S + 10)
    assert kept is not None
    assert (kept.holder, kept.expires_s) == (None, NOW_S + 70)
    again = table.grant(replace(WANT, holder=BOB), making(), now_s=NOW_S + 69.9)
    assert (again.remote_id, again.holder, again.is_ready) == ("r-1", BOB, True)


def test_a_remote_that_is_not_to_be_kept_leaves_no_row():
    table = LeaseTable()
    assert table.release(held(table, want=replace(WANT, keep_s=0.0)), now_s=NOW_S) is None
    assert table.rows() == []


def test_a_remote_that_was_never_ready_is_not_kept():
    table = LeaseTable()
    assert table.release(table.grant(WANT, making("r-1"), now_s=NOW_S), now_s=NOW_S) is None
    assert table.rows() == []


def test_a_second_live_client_is_told_who_holds_it_since_when_and_until_when():
    table = LeaseTable()
    held(table)
    before = table.rows()
    with pytest.raises(LeaseHeld) as caught:
        table.grant(replace(WANT, holder=BOB), making("r-2"), now_s=NOW_S + 3.2)
    assert str(caught.value) == (
        "client 'worker-3': its remote r-1 (flashgames) is held by process 11 on node 'host-a', "
        "which renewed it 3.2 s ago; the lease ends in 11.8 s unless it is renewed. End that "
        "process, wait until it gives the remote back, or use another client_id."
    )
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.node, error.pid, error.remote_id) == ("host-a", 11, "r-1")
    assert error.ends_in_s == pytest.approx(11.8)
    assert table.rows() == before


def test_a_dead_holder_is_taken_over_from_at_once():
    table = LeaseTable()
    held(table)
    again = table.grant(replace(WANT, holder=BOB), making(dead=(ALICE,)), now_s=NOW_S + 1)
    assert (again.remote_id, again.holder, again.is_ready) == ("r-1", BOB, True)


def test_a_remote_whose_maker_died_is_made_under_the_same_name():
    table = LeaseTable()
    table.grant(WANT, making("r-1"), now_s=NOW_S)
    again = table.grant(replace(WANT, holder=BOB), making(dead=(ALICE,)), now_s=NOW_S + 1)
    assert (again.remote_id, again.is_ready) == ("r-1", False)


def test_another_runtime_raises_runtime_mismatch_with_every_way_out():
    table = LeaseTable()
    held(table)
    before = table.rows()
    want = replace(WANT, runtime="wob", env_id="wob.mini.UseColorwheel2-v0")
    with pytest.raises(RuntimeMismatch) as caught:
        table.grant(want, making("r-2"), now_s=NOW_S)
    assert str(caught.value) == (
        "client 'worker-3' has remote r-1 of runtime 'flashgames', but runtime 'wob' "
        "(wob.mini.UseColorwheel2-v0) was asked for. A remote is rebound only within its "
        "runtime: use another client_id, or on_mismatch='new' for a second remote, or remove "
        "the first with `raygym remotes rm r-1`."
    )
    assert caught.value.wanted_runtime == "wob"
    assert table.rows() == before


def test_another_runtime_is_a_second_remote_where_that_was_asked_for():
    table = LeaseTable()
    held(table)
    want = replace(WANT, runtime="wob", on_mismatch="new")
    second = held(table, "r-2", want)
    assert second.obsolete == ()
    assert [row.remote_id for row in table.rows()] == ["r-1", "r-2"]
    assert table.grant(want, making(), now_s=NOW_S).remote_id == "r-2"
    assert table.grant(WANT, making(), now_s=NOW_S).remote_id == "r-1"


def test_a_remote_of_another_runtime_whose_time_ran_out_is_no_mismatch():
    table = LeaseTable()
    held(table)
    lease = table.grant(replace(WANT, runtime="wob"), making("r-2"), now_s=NOW_S + 15)
    assert (lease.remote_id, lease.obsolete) == ("r-2", ("r-1",))


def test_another_variant_replaces_the_remote():
    table = LeaseTable()
    held(table)
    lease = table.grant(replace(WANT, variant=LOCKSTEP), making("r-2"), now_s=NOW_S)
    assert (lease.remote_id, lease.is_ready, lease.obsolete) == ("r-2", False, ("r-1",))
    assert [row.remote_id for row in table.rows()] == ["r-2"]
    assert table.rows()[0].obsolete == ()


def test_another_variant_does_not_take_a_remote_from_a_live_holder():
    table = LeaseTable()
    held(table)
    with pytest.raises(LeaseHeld):
        table.grant(replace(WANT, variant=LOCKSTEP, holder=BOB), making("r-2"), now_s=NOW_S)


def test_a_lease_expires_exactly_at_its_deadline():
    table = LeaseTable()
    lease = held(table)
    assert table.expire(now_s=NOW_S + 14.999) == []
    table.renew(lease, now_s=NOW_S + 14.999)
    with pytest.raises(LeaseExpired, match=r"not renewed in time and ended 0\.0 s ago"):
        table.renew(lease, now_s=NOW_S + 14.999 + 15)
    assert [row.remote_id for row in table.expire(now_s=NOW_S + 14.999 + 15)] == ["r-1"]
    assert table.rows() == []


def test_a_remote_whose_time_ran_out_is_not_given_again():
    table = LeaseTable()
    held(table)
    lease = table.grant(WANT, making("r-2"), now_s=NOW_S + 15)
    assert (lease.remote_id, lease.obsolete) == ("r-2", ("r-1",))


def test_rebind_keeps_the_remote_and_prolongs_its_lease():
    table = LeaseTable()
    lease = held(table)
    bound = table.rebind(lease, "flashgames.NeonRace-v0", now_s=NOW_S + 5)
    assert (bound.remote_id, bound.token) == ("r-1", lease.token)
    assert (bound.env_id, bound.expires_s) == ("flashgames.NeonRace-v0", NOW_S + 20)
    assert table.rows() == [bound]


@pytest.mark.parametrize("change", ["confirm", "renew", "rebind"])
def test_a_stale_token_raises_and_changes_nothing(change):
    table = LeaseTable()
    stale = held(table)
    table.grant(WANT, making(), now_s=NOW_S)
    before = table.rows()
    arguments = ("flashgames.NeonRace-v0",) if change == "rebind" else ()
    with pytest.raises(LeaseExpired, match=r"r-1.*worker-3") as caught:
        getattr(table, change)(stale, *arguments, now_s=NOW_S)
    assert (caught.value.remote_id, caught.value.token) == ("r-1", stale.token)
    assert table.rows() == before


def test_release_and_forget_with_a_stale_token_do_nothing():
    table = LeaseTable()
    stale = held(table)
    table.grant(WANT, making(), now_s=NOW_S)
    before = table.rows()
    assert table.release(stale, now_s=NOW_S) is None
    table.forget(stale.remote_id, stale.token)
    table.forget("r-unknown", 1)
    assert table.rows() == before


def test_a_lease_that_was_given_back_is_not_renewed():
    table = LeaseTable()
    lease = held(table)
    table.release(lease, now_s=NOW_S)
    with pytest.raises(LeaseExpired, match="was given back"):
        table.renew(lease, now_s=NOW_S)


def test_a_forgotten_remote_is_not_given_again():
    table = LeaseTable()
    lease = held(table)
    table.forget("r-1", lease.token)
    with pytest.raises(LeaseExpired, match="no longer in the registry"):
        table.renew(lease, now_s=NOW_S)
    assert table.grant(WANT, making("r-2"), now_s=NOW_S).remote_id == "r-2"


def test_a_ready_spare_is_handed_over_and_its_maker_fenced_off():
    table = LeaseTable()
    made = spare(table)
    lease = table.grant(WANT, making(), now_s=NOW_S)
    assert (lease.remote_id, lease.client_id, lease.is_ready) == ("r-9", "worker-3", True)
    assert lease.holder == ALICE
    with pytest.raises(LeaseExpired):
        table.renew(made, now_s=NOW_S)


@pytest.mark.parametrize("other", [{"is_ready": False}, {"variant": LOCKSTEP}, {"node": "host-b"}])
def test_a_spare_that_does_not_fit_is_left_alone(other):
    table = LeaseTable()
    spare(table, **other)
    assert table.grant(WANT, making("r-1"), now_s=NOW_S).remote_id == "r-1"


def test_a_spare_whose_time_ran_out_is_left_alone():
    table = LeaseTable()
    spare(table)
    assert table.grant(WANT, making("r-1"), now_s=NOW_S + 15).remote_id == "r-1"


def test_a_client_gets_its_own_remote_rather_than_a_spare():
    table = LeaseTable()
    table.release(held(table), now_s=NOW_S)
    spare(table)
    assert table.grant(WANT, making(), now_s=NOW_S).remote_id == "r-1"


def test_a_spare_that_is_given_back_is_not_kept():
    table = LeaseTable()
    assert table.release(spare(table), now_s=NOW_S) is None
    assert table.rows() == []


def found(table: LeaseTable, **changes) -> Found:
    row = table.rows()[0]
    return replace(
        Found(
            remote_id=row.remote_id,
            cluster="local",
            runtime=row.runtime,
            variant=row.variant,
            first_client=row.client_id,
            created="",
            state="running",
            directory=None,
            lease=row.as_file(),
        ),
        **changes,
    )


def test_an_adopted_row_serves_its_holder_and_its_client_as_before():
    lost = LeaseTable()
    lease = replace(held(lost), ttl_s=30.0, keep_s=5.0)
    table = LeaseTable(last_token=100)
    row = table.adopt(found(lost), node="host-a", now_s=NOW_S + 1)
    assert row is not None
    assert (row.holder, row.expires_s, row.is_ready) == (ALICE, NOW_S + 15, True)
    renewed = table.renew(lease, now_s=NOW_S + 2)
    assert (renewed.expires_s, renewed.keep_s) == (NOW_S + 32, 5.0)
    assert table.grant(WANT, making(), now_s=NOW_S + 3).token == 101


@pytest.mark.parametrize("was", ["kept", "spare"])
def test_what_nobody_held_is_adopted_too(was):
    lost = LeaseTable()
    if was == "kept":
        lost.release(held(lost), now_s=NOW_S)
    else:
        spare(lost)
    table = LeaseTable()
    table.adopt(found(lost), node="host-a", now_s=NOW_S)
    lease = table.grant(WANT, making(), now_s=NOW_S)
    assert lease.remote_id == lost.rows()[0].remote_id
    assert lease.token > lost.rows()[0].token


def test_what_cannot_be_held_is_not_adopted():
    lost = LeaseTable()
    held(lost)
    file = found(lost).lease
    table = LeaseTable()
    for one, now_s in [
        (found(lost), NOW_S + 15),
        (found(lost, state="exited"), NOW_S),
        (found(lost, lease=None), NOW_S),
        (found(lost, lease=replace(file, expires_unix_s=float("inf"))), NOW_S),
        (found(lost, lease=replace(file, keep_s=float("nan"))), NOW_S),
    ]:
        assert table.adopt(one, node="host-a", now_s=now_s) is None
    assert table.rows() == []
    assert table.adopt(found(lost), node="host-a", now_s=NOW_S) is not None
    assert table.adopt(found(lost), node="host-a", now_s=NOW_S) is None


@pytest.mark.parametrize("is_newer_first", [True, False])
def test_of_two_remotes_of_one_client_the_newer_is_adopted(is_newer_first):
    lost = LeaseTable()
    held(lost)
    older = found(lost)
    newer = replace(older, remote_id="r-2", lease=replace(older.lease, token=7))
    table = LeaseTable()
    for one in (newer, older) if is_newer_first else (older, newer):
        table.adopt(one, node="host-a", now_s=NOW_S)
    assert [row.remote_id for row in table.rows()] == ["r-2"]


def test_labels_count_more_than_what_a_container_can_write():
    lost = LeaseTable()
    held(lost)
    file = replace(found(lost).lease, client_id="victim", runtime="wob", variant=("x",), holder={})
    row = LeaseTable().adopt(found(lost, lease=file), node="host-a", now_s=NOW_S)
    assert row is not None
    assert (row.client_id, row.runtime, row.variant) == ("worker-3", "flashgames", ())
    assert row.holder is None


def test_a_table_reads_back_what_it_wrote():
    table = LeaseTable(last_token=41)
    held(table, want=replace(WANT, variant=LOCKSTEP, env_id="flashgames.NeonRace-v0"))
    spare(table)
    table.forget("r-9", table.rows()[-1].token)
    read = LeaseTable.from_json(table.to_json())
    assert read.rows() == table.rows()
    assert read.grant(replace(WANT, client_id="w"), making("r-2"), now_s=NOW_S).token == 44


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        '{"format": 1}',
        '{"format": 2, "last_token": 1, "rows": []}',
        '{"format": 1, "last_token": 1, "rows": [{}]}',
        '{"format": 1, "last_token": 1, "rows": ["r-1"]}',
    ],
)
def test_what_is_no_table_is_refused(text):
    with pytest.raises(ValueError):
        LeaseTable.from_json(text)


def test_every_cut_of_a_table_is_refused():
    table = LeaseTable()
    held(table)
    text = table.to_json()
    json.loads(text)
    for length in range(len(text)):
        with pytest.raises(ValueError):
            LeaseTable.from_json(text[:length])
