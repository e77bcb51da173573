from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from raygym.errors import ConfigError, LeaseHeld, MissingDependency, RemoteFailedToStart
from raygym.gateway.admission import Admission, Exhausted
from raygym.gateway.leasing import Held, Leasing, Wanted
from raygym.gateway.tenants import Tenant
from tests.support.gateway_remotes import PaperBackend

ANNA, BEN = Tenant(name="anna"), Tenant(name="ben", quota=1)


def wanted(client_id: str = "", env_id: str = "gym-core.CartPole-v1", **more: Any) -> Wanted:
    return Wanted(env_id=env_id, runtime="gym-core", client_id=client_id, **more)


class House:
    """A Leasing on paper, with a clock that stands still."""

    def __init__(self, slots: int = 2, **options: Any) -> None:
        self.now_s = 100.0
        self.backends: list[PaperBackend] = []
        self.kinds: list[Wanted] = []
        self.refusal: Exception | None = None
        self.leasing = Leasing(
            self._open,
            Admission(slots, clock=lambda: self.now_s),
            clock=lambda: self.now_s,
            **{"queue_timeout_s": 10.0, "keep_s": 60.0, "node": "n", **options},
        )

    def _open(self, asked: Wanted) -> PaperBackend:
        if self.refusal is not None:
            raise self.refusal
        self.kinds.append(asked)
        self.backends.append(PaperBackend())
        return self.backends[-1]

    async def lease(self, who: str = "", tenant: Tenant = ANNA, **more: Any) -> Held:
        return await self.leasing.lease(wanted(who, **more), tenant, timeout_s=0.0)

    @property
    def alive(self) -> list[str]:
        return [remote.id for backend in self.backends for remote in backend.list()]

    async def until(self, is_so: Any) -> None:
        while not is_so():
            await asyncio.sleep(0.001)


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(bounded())


def test_a_lease_shows_in_the_status_until_it_is_given_back() -> None:
    async def work() -> None:
        house = House()
        held = await house.lease("robot")
        house.now_s += 5
        status = house.leasing.status()
        (row,) = status.leases
        assert (row.remote_id, row.client_id, row.tenant, row.age_s, row.node) == (
            held.remote.id,
            "robot",
            "anna",
            5.0,
            "n",
        )
        assert (status.slots, status.used, status.granted) == (2, 1, 1)
        await held.release()
        status = house.leasing.status()
        assert (status.leases, status.used, status.idle, status.given_back) == ([], 0, 1, 1)
        await house.leasing.close()
        assert house.alive == []

    run(work())


def test_two_leases_of_one_remote_have_different_names() -> None:
    async def work() -> None:
        house = House()
        one = await house.lease("robot")
        await one.release()
        other = await house.lease("robot")
        assert other.remote == one.remote
        assert other.lease_id != one.lease_id
        await house.leasing.close()

    run(work())


class TestReuse:
    def test_a_client_gets_the_remote_that_it_had(self) -> None:
        async def work() -> None:
            house = House(slots=3)
            held = {who: await house.lease(who) for who in ("a", "b", "c")}
            for lease in held.values():
                await lease.release()
            again = await house.lease("b")
            assert again.remote == held["b"].remote
            assert house.leasing.status().remotes_reused == 1
            await house.leasing.close()

        run(work())

    def test_another_client_of_the_tenant_gets_it_but_not_another_tenant(self) -> None:
        async def work() -> None:
            house = House()
            held = await house.lease("a")
            await held.release()
            assert (await house.lease("x", BEN)).remote != held.remote
            assert (await house.lease("b")).remote == held.remote
            await house.leasing.close()

        run(work())

    def test_remotes_of_another_environment_are_not_mixed_up(self) -> None:
        async def work() -> None:
            house = House()
            await (await house.lease("a")).release()
            await house.lease("a", env_id="gym-core.Acrobot-v1")
            assert [kind.env_id for kind in house.kinds] == [
                "gym-core.CartPole-v1",
                "gym-core.Acrobot-v1",
            ]
            await house.leasing.close()

        run(work())

    def test_one_that_died_meanwhile_is_replaced(self) -> None:
        async def work() -> None:
            house = House()
            held = await house.lease("a")
            await held.release()
            house.backends[0].alive.clear()
            assert (await house.lease("a")).remote != held.remote
            await house.leasing.close()

        run(work())

    def test_one_that_was_kept_goes_where_its_slot_is_needed(self) -> None:
        async def work() -> None:
            house = House(slots=2)
            first, second = await house.lease("a"), await house.lease("b")
            await first.release()
            await second.release()
            third = await house.lease("x", BEN)
            assert first.remote.id not in house.alive
            assert set(house.alive) == {second.remote.id, third.remote.id}
            await house.leasing.close()

        run(work())

    def test_it_goes_after_its_time_and_so_does_its_backend(self) -> None:
        async def work() -> None:
            house = House(keep_s=60.0)
            await (await house.lease("a")).release()
            house.now_s += 59.9
            await house.leasing.sweep()
            assert house.leasing.status().idle == 1
            house.now_s += 0.1
            await house.leasing.sweep()
            await house.until(lambda: not house.alive)
            await house.leasing.sweep()
            await house.until(lambda: house.backends[0].is_closed)
            assert (await house.lease("a")).remote.id in house.alive
            await house.leasing.close()

        run(work())

    def test_nothing_is_kept_that_shows_a_screen_or_broke_or_need_not_be(self) -> None:
        async def work() -> None:
            house = House()
            await (await house.lease("a", mode="realtime")).release()
            await (await house.lease("a")).remove()
            assert house.alive == []
            await house.leasing.close()
            house = House(keep_s=0.0)
            await (await house.lease("a")).release()
            assert house.alive == []
            await house.leasing.close()

        run(work())


class TestFailures:
    def test_a_remote_that_does_not_start_frees_its_slot_and_its_client(self) -> None:
        async def work() -> None:
            house = House(slots=1)
            await (await house.lease("a")).remove()
            house.backends[0].failure = RemoteFailedToStart("it burns")
            with pytest.raises(RemoteFailedToStart, match="it burns"):
                await house.lease("a")
            house.backends[0].failure = None
            held = await house.lease("a")
            assert house.leasing.status().remotes_failed == 1
            assert house.leasing.status().used == 1
            await held.release()
            await house.leasing.close()

        run(work())

    def test_so_does_a_backend_that_cannot_be_made(self) -> None:
        async def work() -> None:
            house = House(slots=1)
            house.refusal = MissingDependency("no engine")
            with pytest.raises(MissingDependency):
                await house.lease("a")
            house.refusal = None
            await house.lease("a")
            await house.leasing.close()

        run(work())

    def test_a_remote_that_is_lost_while_it_is_held_is_told_and_not_kept(self) -> None:
        async def work() -> None:
            house = House()
            held, other = await house.lease("a"), await house.lease("b")
            del house.backends[0].alive[held.remote.id]
            await house.leasing.sweep()
            assert held.remote.id in await held.loss
            assert not other.loss.done()
            await held.release()
            status = house.leasing.status()
            assert (status.remotes_lost, status.idle, status.used) == (1, 0, 1)
            await house.leasing.close()

        run(work())

    def test_it_is_given_back_once_however_often_it_is_said(self) -> None:
        async def work() -> None:
            house = House()
            held = await house.lease("a")
            await asyncio.gather(held.release(), held.remove(), held.release())
            status = house.leasing.status()
            assert (status.given_back, status.used, status.idle) == (1, 0, 1)
            await house.leasing.close()

        run(work())

    def test_one_that_its_holder_found_lost_is_logged_with_the_end_of_its_own_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work() -> None:
            house = House()
            held = await house.lease("a")
            await held.note_loss("it hung up")
            await held.note_loss("it hung up")
            await held.release()
            status = house.leasing.status()
            assert (status.remotes_lost, status.idle) == (1, 0)
            assert f"it hung up\n20 lines of {held.remote.id}" in caplog.text
            await house.leasing.close()

        run(work())

    def test_why_one_did_not_start_is_logged_with_its_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work() -> None:
            house = House()
            house.refusal = RemoteFailedToStart("it burns. Its log ends:\nsmoke")
            with pytest.raises(RemoteFailedToStart):
                await house.lease("a")
            assert "smoke" in caplog.text
            await house.leasing.close()

        run(work())


class TestClients:
    def test_a_client_has_one_remote_at_a_time(self) -> None:
        async def work() -> None:
            house = House()
            held = await house.lease("a")
            with pytest.raises(LeaseHeld, match=f"'a' has had {held.remote.id}"):
                await house.lease("a")
            assert (await house.lease("a", BEN)).tenant == BEN
            await held.release()
            assert (await house.lease("a")).remote == held.remote
            await house.leasing.close()

        run(work())

    def test_also_while_it_waits_for_one(self) -> None:
        async def work() -> None:
            house = House(slots=1)
            await house.lease("a")
            waiting = asyncio.create_task(house.leasing.lease(wanted("b"), ANNA))
            await house.until(lambda: house.leasing.status().waiting)
            with pytest.raises(LeaseHeld, match="'b' waits"):
                await house.lease("b")
            waiting.cancel()
            await asyncio.wait({waiting})
            with pytest.raises(Exhausted):
                await house.lease("b")
            await house.leasing.close()

        run(work())

    def test_those_without_a_name_get_one_each(self) -> None:
        async def work() -> None:
            house = House()
            names = {(await house.lease()).client_id, (await house.lease()).client_id}
            assert len(names) == 2
            assert all(name.startswith("anonymous-") for name in names)
            await house.leasing.close()

        run(work())

    @pytest.mark.parametrize("name", ["a" * 129, "a\nb", "\0"])
    def test_a_name_that_would_spoil_a_log_is_refused(self, name: str) -> None:
        async def work() -> None:
            house = House()
            with pytest.raises(ConfigError, match="client_id"):
                await house.lease(name)
            await house.leasing.close()

        run(work())

    def test_one_that_goes_away_while_its_remote_starts_leaves_nothing_behind(self) -> None:
        async def work() -> None:
            house = House(slots=1)
            await (await house.lease("warm-up")).remove()
            backend = house.backends[0]
            backend.may_start.clear()
            gone = asyncio.create_task(house.lease("a"))
            await house.until(lambda: "anna.a" in backend.clients)
            gone.cancel()
            await asyncio.wait({gone})
            assert house.leasing.status().used == 1
            backend.may_start.set()
            await house.until(lambda: house.leasing.status().used == 0)
            status = house.leasing.status()
            assert (status.leases, status.idle, status.given_back) == ([], 1, 2)
            await house.leasing.close()
            assert house.alive == []

        run(work())


def test_a_quota_is_that_of_the_tenant() -> None:
    async def work() -> None:
        house = House(slots=3)
        await house.lease("a", BEN)
        with pytest.raises(Exhausted, match="ben may have 1"):
            await house.lease("b", BEN)
        await house.lease("a")
        await house.leasing.close()

    run(work())


def test_after_the_end_there_are_no_more_leases() -> None:
    async def work() -> None:
        house = House()
        held = await house.lease("a")
        await house.leasing.close()
        assert held.is_over
        assert house.alive == []
        with pytest.raises(RemoteFailedToStart, match="is being stopped"):
            await house.lease("b")
        await house.leasing.close()

    run(work())
