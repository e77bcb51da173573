from __future__ import annotations

import asyncio
import pickle
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygym.errors import ConfigError
from raygym.gateway.admission import Admission, Exhausted, Place
from raygym.gateway.tenants import Tenant

ANNA, BEN = Tenant(name="anna", quota=2), Tenant(name="ben")
LONG_S = 30.0


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(bounded())


def ask(admission: Admission, tenant: Tenant, who: str = "") -> asyncio.Task[Place]:
    return asyncio.create_task(admission.wait_for_place(tenant, "cartpole", LONG_S, client_id=who))


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_slots_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    async def work() -> None:
        admission = Admission(2)
        first = [await ask(admission, BEN) for _ in range(2)]
        order: list[int] = []
        waiting = [ask(admission, BEN) for _ in range(5)]
        for number, task in enumerate(waiting):
            task.add_done_callback(lambda _, number=number: order.append(number))
        await settle()
        assert order == []
        assert [row.position for row in admission.waiting()] == [1, 2, 3, 4, 5]
        places = [*first]
        while places:
            places.pop(0).leave()
            await settle()
            places += [task.result() for task in waiting if task.done() and task not in done]
            done.update(task for task in waiting if task.done())
        assert order == [0, 1, 2, 3, 4]
        assert admission.used == 0

    done: set[asyncio.Task[Place]] = set()
    run(work())


def test_a_tenant_over_its_quota_is_passed_over_and_keeps_its_place() -> None:
    async def work() -> None:
        admission = Admission(4)
        annas = [await ask(admission, ANNA) for _ in range(2)]
        third, fourth = ask(admission, ANNA, "third"), ask(admission, ANNA, "fourth")
        await settle()
        await ask(admission, BEN)
        assert [(row.client_id, row.is_over_quota) for row in admission.waiting()] == [
            ("third", True),
            ("fourth", True),
        ]
        annas[0].leave()
        await settle()
        assert (third.done(), fourth.done()) == (True, False)
        fourth.cancel()

    run(work())


def test_nobody_overtakes_a_tenant_that_only_waits_for_a_slot() -> None:
    async def work() -> None:
        admission = Admission(1)
        held = await ask(admission, BEN)
        anna, ben = ask(admission, ANNA), ask(admission, BEN)
        await settle()
        held.leave()
        await settle()
        assert (anna.done(), ben.done()) == (True, False)
        ben.cancel()

    run(work())


def test_one_who_waits_too_long_is_told_how_many_slots_who_waits_and_its_position() -> None:
    async def work() -> None:
        admission = Admission(1)
        await ask(admission, BEN)
        before = ask(admission, BEN)
        await settle()
        with pytest.raises(Exhausted) as caught:
            await admission.wait_for_place(BEN, "pong", 0.01)
        error = caught.value
        assert (error.cause, error.slots, error.used, error.position) == ("slots", 1, 1, 2)
        for part in ("pong", "1 slots", "0.01 s", "1 for cartpole", "1 for pong", "number 2"):
            assert part in error.message
        assert admission.refused == {"slots": 1}
        assert pickle.loads(pickle.dumps(error)).position == 2
        before.cancel()

    run(work())


def test_one_over_its_quota_is_told_that_it_is_the_quota() -> None:
    async def work() -> None:
        admission = Admission(4)
        for _ in range(2):
            await ask(admission, ANNA)
        with pytest.raises(Exhausted, match="anna may have 2 slots") as caught:
            await admission.wait_for_place(ANNA, "pong", 0)
        assert caught.value.cause == "quota"

    run(work())


def test_more_than_may_wait_are_refused_at_once() -> None:
    async def work() -> None:
        admission = Admission(1, max_waiting=1)
        await ask(admission, BEN)
        waiting = ask(admission, BEN)
        await settle()
        with pytest.raises(Exhausted, match="1 wait already") as caught:
            await admission.wait_for_place(BEN, "pong", LONG_S)
        assert (caught.value.cause, len(admission.waiting())) == ("full", 1)
        waiting.cancel()

    run(work())


def test_a_tenant_cannot_fill_the_queue_beyond_its_part_of_it() -> None:
    async def work() -> None:
        admission = Admission(1)
        guest = Tenant(name="guest", queue=1)
        await ask(admission, BEN)
        tasks = [ask(admission, guest)]
        await settle()
        with pytest.raises(Exhausted, match="1 clients of guest wait already") as caught:
            await ask(admission, guest)
        assert caught.value.cause == "full"
        tasks.append(ask(admission, BEN))
        await settle()
        assert [row.tenant for row in admission.waiting()] == ["guest", "ben"]
        for task in tasks:
            task.cancel()

    run(work())


def test_where_nobody_may_wait_a_free_slot_is_still_given() -> None:
    async def work() -> None:
        admission = Admission(1, max_waiting=0)
        (await ask(admission, BEN)).leave()
        await ask(admission, BEN)
        with pytest.raises(Exhausted):
            await ask(admission, BEN)

    run(work())


def test_one_that_goes_away_leaves_the_queue() -> None:
    async def work() -> None:
        admission = Admission(1)
        held = await ask(admission, BEN)
        gone, stays = ask(admission, BEN), ask(admission, BEN)
        await settle()
        gone.cancel()
        await settle()
        assert len(admission.waiting()) == 1
        held.leave()
        await settle()
        assert stays.done()
        assert admission.gone == 1

    run(work())


def test_a_slot_that_came_as_its_client_went_goes_to_the_next() -> None:
    async def work() -> None:
        admission = Admission(1)
        held = await ask(admission, BEN)
        gone, stays = ask(admission, BEN), ask(admission, BEN)
        await settle()
        held.leave()
        gone.cancel()
        await settle()
        assert stays.done()
        assert admission.used == 1

    run(work())


def test_a_place_is_left_once_however_often_it_is_said() -> None:
    async def work() -> None:
        admission = Admission(2)
        one, _ = await ask(admission, ANNA), await ask(admission, ANNA)
        one.leave()
        one.leave()
        assert admission.used == 1

    run(work())


def test_waits_are_measured_by_the_clock_that_was_given() -> None:
    async def work() -> None:
        now = [10.0]
        admission = Admission(1, clock=lambda: now[0])
        held = await ask(admission, BEN)
        waiting = ask(admission, BEN)
        await settle()
        now[0] = 13.0
        assert [row.waited_s for row in admission.waiting()] == [3.0]
        held.leave()
        assert (await waiting).waited_s == 3.0

    run(work())


@pytest.mark.parametrize("arguments", [{"slots": 0}, {"slots": 1, "max_waiting": -1}])
def test_numbers_that_make_no_sense_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="Admission"):
        Admission(**arguments)


MOVES = st.lists(
    st.tuples(st.sampled_from(["ask", "leave", "cancel"]), st.integers(0, 9)), max_size=40
)


@settings(max_examples=30, deadline=None)
@given(moves=MOVES, slots=st.integers(1, 4))
def test_whatever_happens_no_slot_is_lost_or_given_twice(
    moves: list[tuple[str, int]], slots: int
) -> None:
    tenants = [Tenant(name="a", quota=1), Tenant(name="b", quota=2), Tenant(name="c")]

    async def work() -> None:
        admission = Admission(slots)
        waiting: list[asyncio.Task[Place]] = []
        held: list[Place] = []
        for move, number in moves:
            if move == "ask":
                waiting.append(ask(admission, tenants[number % 3]))
            elif move == "leave" and held:
                held.pop(number % len(held)).leave()
            elif move == "cancel" and waiting:
                waiting.pop(number % len(waiting)).cancel()
            await settle()
            held += [task.result() for task in waiting if task.done()]
            waiting = [task for task in waiting if not task.done()]
            assert admission.used == len(held) <= slots
            for tenant in tenants:
                used = sum(place.tenant == tenant for place in held)
                assert used <= (tenant.quota or slots)
            if admission.used < slots:
                assert all(row.is_over_quota for row in admission.waiting())
        for task in waiting:
            task.cancel()
        for place in held:
            place.leave()
        await settle()
        assert admission.used == 0

    run(work())
