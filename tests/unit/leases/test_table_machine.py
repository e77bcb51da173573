"""The rules of leasing under any order of what may happen."""

from __future__ import annotations

import itertools
from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from raygym.errors import LeaseError, LeaseExpired
from raygym.leases.protocols import Holder, Lease, Want
from raygym.leases.table import LeaseTable, Making

HOLDERS = [Holder(node="host", pid=pid, pid_namespace="", started_ticks=0) for pid in (1, 2, 3)]
CLIENTS = st.sampled_from(["worker-0", "worker-1"])
RUNTIMES = st.sampled_from(["flashgames", "wob"])
VARIANTS = st.sampled_from([(), ("--mode", "lockstep")])
TTL_S = 15.0


class LeaseMachine(RuleBasedStateMachine):
    """Clients, spares, deaths and time, against what a reader of the rules would expect."""

    leases = Bundle("leases")
    """Every lease ever given out, most of them stale."""

    def __init__(self) -> None:
        super().__init__()
        self.table = LeaseTable()
        self.now_s = 1000.0
        self.dead: set[Holder] = set()
        self.last_token = 0
        self.serial = itertools.count()
        self.own: dict[tuple[str, str], Lease] = {}

    def new_id(self) -> str:
        return f"r-{next(self.serial)}"

    def making(self) -> Making:
        return Making(new_id=self.new_id, is_dead=self.dead.__contains__, node="host")

    def note_token(self, lease: Lease) -> None:
        assert lease.token > self.last_token
        self.last_token = lease.token

    def is_current(self, lease: Lease) -> bool:
        rows = [row for row in self.table.rows() if row.remote_id == lease.remote_id]
        return (
            bool(rows)
            and rows[0].token == lease.token
            and rows[0].holder is not None
            and not rows[0].is_expired(self.now_s)
        )

    def is_ready_now(self, rows, lease: Lease) -> bool:
        return any(row.is_ready and row.remote_id == lease.remote_id for row in rows)

    @rule(
        target=leases,
        client_id=CLIENTS,
        runtime=RUNTIMES,
        variant=VARIANTS,
        holder=st.sampled_from(HOLDERS),
        keep_s=st.sampled_from([0.0, 60.0]),
        on_mismatch=st.sampled_from(["raise", "new"]),
    )
    def grant(self, client_id, runtime, variant, holder, keep_s, on_mismatch):
        want = Want(
            client_id=client_id,
            runtime=runtime,
            variant=variant,
            holder=holder,
            ttl_s=TTL_S,
            keep_s=keep_s,
            on_mismatch=on_mismatch,
        )
        before = {row.remote_id: row for row in self.table.rows()}
        own = self.own.get((client_id, runtime))
        try:
            lease = self.table.grant(want, self.making(), now_s=self.now_s)
        except LeaseError:
            assert {row.remote_id: row for row in self.table.rows()} == before
            return multiple()
        self.note_token(lease)
        if own is not None and not own.is_expired(self.now_s) and own.variant == variant:
            assert lease.remote_id == own.remote_id
            assert lease.is_ready == own.is_ready
        was = before.get(lease.remote_id)
        if was is not None and was.holder not in (None, holder, *self.dead):
            assert not was.client_id
        after = {row.remote_id for row in self.table.rows()}
        assert set(before) - after == set(lease.obsolete)
        assert {before[gone].client_id for gone in lease.obsolete} <= {client_id}
        for gone in map(before.__getitem__, lease.obsolete):
            is_replaced = gone.runtime == runtime and gone.variant != variant
            assert gone.is_expired(self.now_s) or is_replaced
        self.own[client_id, runtime] = replace(lease, obsolete=())
        return lease

    @rule(target=leases, runtime=RUNTIMES, variant=VARIANTS, holder=st.sampled_from(HOLDERS))
    def add_spare(self, runtime, variant, holder):
        lease = self.table.add_spare(
            runtime,
            variant,
            holder=holder,
            ttl_s=TTL_S,
            remote_id=self.new_id(),
            node="host",
            now_s=self.now_s,
        )
        self.note_token(lease)
        return lease

    @rule(lease=leases, change=st.sampled_from(["confirm", "renew", "rebind"]))
    def use(self, lease, change):
        before = self.table.rows()
        is_current = self.is_current(lease)
        try:
            if change == "confirm":
                self.table.confirm(lease, now_s=self.now_s)
            elif change == "renew":
                self.table.renew(lease, now_s=self.now_s)
            else:
                self.table.rebind(lease, "flashgames.NeonRace-v0", now_s=self.now_s)
        except LeaseExpired:
            assert not is_current
            assert self.table.rows() == before
        else:
            assert is_current

    @rule(lease=leases)
    def release(self, lease):
        before = self.table.rows()
        is_current = self.is_current(lease)
        kept = self.table.release(lease, now_s=self.now_s)
        if not is_current:
            assert kept is None
            assert self.table.rows() == before
        elif kept is None:
            assert not (lease.keep_s > 0 and self.is_ready_now(before, lease))
        else:
            assert kept in self.table.rows()
            assert kept.holder is None
            assert kept.expires_s == self.now_s + lease.keep_s

    @rule(lease=consumes(leases))
    def forget(self, lease):
        before = self.table.rows()
        is_newest = any(
            (row.remote_id, row.token) == (lease.remote_id, lease.token) for row in before
        )
        self.table.forget(lease.remote_id, lease.token)
        assert len(before) - len(self.table.rows()) == is_newest

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0, TTL_S, 60.0]))
    def time_passes(self, seconds):
        self.now_s += seconds

    @rule(holder=st.sampled_from(HOLDERS))
    def die(self, holder):
        if len(self.dead) < len(HOLDERS) - 1:
            self.dead.add(holder)

    @rule()
    def expire(self):
        before = self.table.rows()
        gone = self.table.expire(now_s=self.now_s)
        assert all(row.is_expired(self.now_s) for row in gone)
        assert not any(row.is_expired(self.now_s) for row in self.table.rows())
        assert sorted([*gone, *self.table.rows()], key=lambda row: row.token) == list(before)

    @invariant()
    def a_client_has_at_most_one_remote_of_a_runtime(self):
        keys = [(row.client_id, row.runtime) for row in self.table.rows() if row.client_id]
        assert len(keys) == len(set(keys))

    @invariant()
    def no_two_rows_share_a_remote_or_a_token(self):
        rows = self.table.rows()
        assert len({row.remote_id for row in rows}) == len(rows)
        assert len({row.token for row in rows}) == len(rows)

    @invariant()
    def nothing_stored_asks_for_a_removal(self):
        assert all(row.obsolete == () for row in self.table.rows())

    @invariant()
    def a_client_keeps_its_remote(self):
        """Rows change their Remote by a grant only; other rules remove rows, or leave them."""
        rows = {(r.client_id, r.runtime): r for r in self.table.rows() if r.client_id}
        assert rows.keys() <= self.own.keys()
        for key, row in rows.items():
            assert row.remote_id == self.own[key].remote_id
        self.own = rows

    @invariant()
    def text_holds_all_of_it(self):
        text = self.table.to_json()
        read = LeaseTable.from_json(text)
        assert read.rows() == self.table.rows()
        assert read.to_json() == text


LeaseMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, derandomize=True
)
TestLeaseMachine = LeaseMachine.TestCase
