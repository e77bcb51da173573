"""What a gateway says before a client has a remote, and what it hands on; no sockets."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Coroutine
from typing import Any

import pytest

from raygym.core import Remote
from raygym.errors import RemoteFailedToStart, SessionLost
from raygym.gateway.admission import Admission
from raygym.gateway.config import LeaseLimits
from raygym.gateway.dialects import DmDialect, RaygymDialect
from raygym.gateway.leasing import Leasing, Wanted
from raygym.gateway.lines import DM_METHOD, RAYGYM_METHOD
from raygym.gateway.offers import Offers
from raygym.gateway.stream_tally import StreamTally
from raygym.gateway.tenants import ANYBODY
from raygym.gateway.visits import House, Visit
from raygym.wire.dm_tensors import tensor_from_message, tensor_to_message
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm
from raygym.wire.proto import raygym_v1_pb2 as pb
from raygym.wire.values import map_to_message
from tests.support.gateway_remotes import PaperBackend

CARTPOLE, ACROBOT = "gym-core.CartPole-v1", "gym-core.Acrobot-v1"


@functools.cache
def offers() -> Offers:
    return Offers((CARTPOLE, ACROBOT))


class ScriptedLine:
    """Answers what it was told to, and remembers what it was asked."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.asked: list[bytes] = []
        self.answers: list[bytes | Exception] = []
        self.is_closed = False

    async def ask(self, request: bytes) -> bytes:
        self.asked.append(request)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if self.method == DM_METHOD:
            return b"raw answer"
        asked = pb.Request.FromString(request)
        if asked.HasField("hello"):
            return pb.Response(id=asked.id, welcome=pb.Welcome(version=1)).SerializeToString()
        return pb.Response(id=asked.id, made=pb.Made()).SerializeToString()

    async def close(self) -> None:
        self.is_closed = True


class Desk:
    """A gateway on paper, with one visit."""

    def __init__(self, method: str, client_id: str = "", slots: int = 1) -> None:
        self.backend = PaperBackend()
        self.lines: list[ScriptedLine] = []
        self.answers: list[bytes | Exception] = []
        self.leasing = Leasing(self._backend_of, Admission(slots), queue_timeout_s=0.0)
        self.house = House(
            leasing=self.leasing,
            offers=offers(),
            limits=LeaseLimits(max_envs=4),
            tally=StreamTally(),
            max_request_bytes=2048,
            open_line=self._open,
        )
        self.visit = Visit(self.house, ANYBODY, method, client_id)

    def _backend_of(self, _wanted: Wanted) -> PaperBackend:
        return self.backend

    async def _open(self, _remote: Remote, method: str, *, timeout_s: float) -> ScriptedLine:
        assert timeout_s > 0
        self.lines.append(ScriptedLine(method))
        self.lines[-1].answers, self.answers = self.answers, []
        return self.lines[-1]


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(bounded())


class Raygym(Desk):
    def __init__(self, **options: Any) -> None:
        super().__init__(RAYGYM_METHOD, **options)
        self.dialect = RaygymDialect(self.visit)

    async def ask(self, **body: Any) -> pb.Response:
        request = pb.Request(id=7, **body).SerializeToString()
        response = pb.Response.FromString(await self.dialect.answer(request))
        assert response.id == 7
        return response

    async def refusal(self, **body: Any) -> tuple[int, str]:
        error = (await self.ask(**body)).error
        return error.code, error.message


HELLO = pb.Hello(version=1, client_id="robot", machine="mine")


class TestRaygym:
    def test_hello_is_answered_without_a_lease_and_says_what_is_offered(self) -> None:
        async def work() -> None:
            desk = Raygym()
            welcome = (await desk.ask(hello=HELLO)).welcome
            assert list(welcome.env_ids) == [CARTPOLE, ACROBOT]
            assert (welcome.max_envs, welcome.max_message_bytes) == (4, 2048)
            assert (welcome.local_socket, welcome.machine) == ("", "")
            assert desk.leasing.status().used == 0
            await desk.leasing.close()

        run(work())

    def test_make_leases_and_the_remote_is_greeted_and_asked_by_its_own_name(self) -> None:
        async def work() -> None:
            desk = Raygym()
            await desk.ask(hello=HELLO)
            make = pb.Make(env_id=ACROBOT, count=3, wants_shared_memory=True)
            assert (await desk.ask(make=make)).HasField("made")
            hello, made = (pb.Request.FromString(data) for data in desk.lines[0].asked)
            # Nothing is shared with whoever comes through a gateway.
            assert (hello.hello.client_id, hello.hello.machine) == ("robot", "")
            assert (made.make.env_id, made.make.count) == ("Acrobot-v1", 3)
            assert not made.make.wants_shared_memory
            assert desk.backend.clients == ["anybody.robot"]
            await desk.leasing.close()

        run(work())

    def test_after_that_bytes_go_there_and_back_as_they_are(self) -> None:
        async def work() -> None:
            desk = Raygym()
            await desk.ask(hello=HELLO)
            await desk.ask(make=pb.Make())
            desk.lines[0].answers = [b"\xff any bytes"]
            assert await desk.dialect.answer(b"\xfe others") == b"\xff any bytes"
            assert desk.lines[0].asked[-1] == b"\xfe others"
            counts = desk.house.tally.counts()
            assert counts.round_trips == 3
            await desk.leasing.close()

        run(work())

    @pytest.mark.parametrize(
        ("body", "code", "said"),
        [
            ({"make": pb.Make(env_id="gym-core.Pendulum-v1")}, "INVALID_ARGUMENT", "not offer"),
            ({"make": pb.Make(env_id="os:path-v0")}, "INVALID_ARGUMENT", "not offer"),
            ({"make": pb.Make(count=5)}, "RESOURCE_EXHAUSTED", "at most 4"),
            ({"step": pb.Step()}, "FAILED_PRECONDITION", "Make first"),
            ({"hello": HELLO}, "FAILED_PRECONDITION", "said already"),
            ({}, "INVALID_ARGUMENT", "no request"),
        ],
    )
    def test_what_makes_no_sense_is_refused_and_the_stream_goes_on(
        self, body: dict[str, Any], code: str, said: str
    ) -> None:
        async def work() -> None:
            desk = Raygym()
            await desk.ask(hello=HELLO)
            got, message = await desk.refusal(**body)
            assert pb.Error.Code.Name(got) == code
            assert said in message
            assert desk.house.tally.refused == {code: 1}
            assert desk.leasing.status().used == 0
            assert (await desk.ask(make=pb.Make())).HasField("made")
            await desk.leasing.close()

        run(work())

    def test_make_before_hello_is_refused(self) -> None:
        async def work() -> None:
            desk = Raygym()
            assert (await desk.refusal(make=pb.Make()))[0] == pb.Error.FAILED_PRECONDITION
            await desk.leasing.close()

        run(work())

    def test_a_full_gateway_is_told_with_the_reason(self) -> None:
        async def work() -> None:
            desk = Raygym()
            await desk.leasing.lease(desk.house.offers.find("", "lockstep"), ANYBODY)
            await desk.ask(hello=HELLO)
            code, message = await desk.refusal(make=pb.Make())
            assert code == pb.Error.RESOURCE_EXHAUSTED
            assert "1 of 1 are in use" in message
            await desk.leasing.close()

        run(work())

    def test_a_remote_that_does_not_start_is_told_without_its_log(self) -> None:
        async def work() -> None:
            desk = Raygym()
            desk.backend.failure = RemoteFailedToStart("it burns. Its log ends:\n/secret/path")
            await desk.ask(hello=HELLO)
            code, message = await desk.refusal(make=pb.Make())
            assert code == pb.Error.UNAVAILABLE
            assert message == "it burns. The gateway's log says more."
            await desk.leasing.close()

        run(work())

    def test_a_make_that_the_remote_refuses_gives_the_lease_back(self) -> None:
        async def work() -> None:
            desk = Raygym()
            await desk.ask(hello=HELLO)
            welcome = pb.Response(id=7, welcome=pb.Welcome(version=1)).SerializeToString()
            error = pb.Response(id=7, error=pb.Error(code=3, message="kwargs"))
            desk.answers = [welcome, error.SerializeToString()]
            assert await desk.refusal(make=pb.Make()) == (3, "kwargs")
            status = desk.leasing.status()
            assert (status.used, status.idle) == (0, 1)
            assert desk.lines[0].is_closed
            assert (await desk.ask(make=pb.Make())).HasField("made")
            await desk.leasing.close()

        run(work())

    def test_a_remote_that_is_lost_ends_the_stream_and_is_not_kept(self) -> None:
        async def work() -> None:
            desk = Raygym()
            await desk.ask(hello=HELLO)
            await desk.ask(make=pb.Make())
            desk.lines[0].answers = [SessionLost("gone")]
            with pytest.raises(SessionLost):
                await desk.dialect.answer(b"")
            await desk.visit.give_back()
            assert desk.leasing.status().idle == 0
            assert desk.backend.removed
            await desk.leasing.close()

        run(work())

    def test_metadata_go_before_the_name_in_a_hello(self) -> None:
        async def work() -> None:
            desk = Raygym(client_id="steady")
            await desk.ask(hello=HELLO)
            await desk.ask(make=pb.Make())
            assert desk.backend.clients == ["anybody.steady"]
            await desk.leasing.close()

        run(work())


class Dm(Desk):
    def __init__(self, **options: Any) -> None:
        super().__init__(DM_METHOD, **options)
        self.dialect = DmDialect(self.visit)

    async def raw(self, **body: Any) -> bytes:
        return await self.dialect.answer(dm.EnvironmentRequest(**body).SerializeToString())

    async def refusal(self, **body: Any) -> tuple[str, str]:
        error = dm.EnvironmentResponse.FromString(await self.raw(**body)).error
        return pb.Error.Code.Name(error.code), error.message  # type: ignore[arg-type]

    def created(self) -> dict[str, Any]:
        """Settings of the last CreateWorld that the remote got."""
        request = dm.EnvironmentRequest.FromString(self.lines[-1].asked[-1])
        settings = request.create_world.settings
        return {name: tensor_from_message(value).item() for name, value in settings.items()}


def create(**settings: Any) -> dm.CreateWorldRequest:
    return dm.CreateWorldRequest(
        settings={name: tensor_to_message(value) for name, value in settings.items()}
    )


class TestDmEnvRpc:
    def test_create_world_leases_the_first_environment_where_none_is_named(self) -> None:
        async def work() -> None:
            desk = Dm()
            assert await desk.raw(create_world=create()) == b"raw answer"
            assert desk.created() == {"env_id": "CartPole-v1"}
            (row,) = desk.leasing.status().leases
            assert row.env_id == CARTPOLE
            await desk.leasing.close()

        run(work())

    @pytest.mark.parametrize("env_id", ["Acrobot-v1", ACROBOT])
    def test_remote_gyms_entrypoint_names_it_too(self, env_id: str) -> None:
        async def work() -> None:
            desk = Dm()
            args = json.dumps({"entrypoint": env_id, "entrypoint_kwargs": {"a": 1}})
            await desk.raw(create_world=create(args=args, seed=3))
            assert desk.created() == {"env_id": "Acrobot-v1", "args": args, "seed": 3}
            await desk.leasing.close()

        run(work())

    def test_the_name_of_the_client_is_the_gateways_own_setting(self) -> None:
        async def work() -> None:
            desk = Dm()
            await desk.raw(create_world=create(client_id="robot"))
            assert desk.created() == {"env_id": "CartPole-v1"}
            assert desk.backend.clients == ["anybody.robot"]
            await desk.leasing.close()

        run(work())

    def test_all_else_goes_on_as_it_is_once_there_is_a_remote(self) -> None:
        async def work() -> None:
            desk = Dm()
            await desk.raw(create_world=create())
            assert await desk.dialect.answer(b"\x1a\x00") == b"raw answer"
            assert desk.lines[0].asked[-1] == b"\x1a\x00"
            await desk.leasing.close()

        run(work())

    def test_a_second_world_is_one_of_the_same_environment(self) -> None:
        async def work() -> None:
            desk = Dm()
            await desk.raw(create_world=create(env_id=ACROBOT))
            await desk.raw(create_world=create())
            assert desk.created() == {"env_id": "Acrobot-v1"}
            code, message = await desk.refusal(create_world=create(env_id=CARTPOLE))
            assert (code, len(desk.lines)) == ("FAILED_PRECONDITION", 1)
            assert "open another stream" in message
            await desk.leasing.close()

        run(work())

    @pytest.mark.parametrize(
        ("body", "code", "said"),
        [
            ({"create_world": create(nonsense=1)}, "INVALID_ARGUMENT", "no setting 'nonsense'"),
            ({"create_world": create(client_id=1)}, "INVALID_ARGUMENT", "one string"),
            ({"create_world": create(env_id="Pendulum-v1")}, "INVALID_ARGUMENT", "not offer"),
            ({"create_world": create(args="{")}, "INVALID_ARGUMENT", "JSON"),
            ({"join_world": dm.JoinWorldRequest(world_name="w")}, "NOT_FOUND", "no world 'w'"),
            ({"step": dm.StepRequest()}, "FAILED_PRECONDITION", "JoinWorld first"),
            ({}, "UNIMPLEMENTED", "no request"),
        ],
    )
    def test_what_makes_no_sense_is_answered_as_a_server_without_worlds_would(
        self, body: dict[str, Any], code: str, said: str
    ) -> None:
        async def work() -> None:
            desk = Dm()
            got, message = await desk.refusal(**body)
            assert got == code
            assert said in message
            assert desk.leasing.status().used == 0
            await desk.leasing.close()

        run(work())

    def test_bytes_that_are_no_message_are_refused(self) -> None:
        async def work() -> None:
            desk = Dm()
            for data in (b"\x0a\xff", b"\xff"):
                answer = dm.EnvironmentResponse.FromString(await desk.dialect.answer(data))
                assert answer.error.code == pb.Error.INVALID_ARGUMENT
            await desk.leasing.close()

        run(work())

    def test_leaving_nothing_is_fine(self) -> None:
        async def work() -> None:
            desk = Dm()
            answer = await desk.raw(leave_world=dm.LeaveWorldRequest())
            assert dm.EnvironmentResponse.FromString(answer).HasField("leave_world")
            await desk.leasing.close()

        run(work())


def test_a_remote_that_was_asked_and_did_not_answer_is_not_kept() -> None:
    async def work() -> None:
        desk = Dm()
        await desk.raw(create_world=create())
        hangs = asyncio.Event()

        async def never(_request: bytes) -> bytes:
            hangs.set()
            await asyncio.Event().wait()
            return b""

        desk.lines[0].ask = never  # type: ignore[method-assign]
        asking = asyncio.create_task(desk.dialect.answer(b"\x1a\x00"))
        await hangs.wait()
        asking.cancel()
        await asyncio.wait({asking})
        await desk.visit.give_back()
        status = desk.leasing.status()
        assert (status.used, status.idle) == (0, 0)
        await desk.leasing.close()

    run(work())


def test_kwargs_of_a_client_reach_the_remote() -> None:
    async def work() -> None:
        desk = Raygym()
        await desk.ask(hello=HELLO)
        await desk.ask(make=pb.Make(kwargs=map_to_message({"depth": 3})))
        made = pb.Request.FromString(desk.lines[0].asked[-1]).make
        assert made.kwargs == map_to_message({"depth": 3})
        await desk.leasing.close()

    run(work())
