from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from raygym.core import Endpoint, Remote, Secret
from raygym.errors import ConfigError, RemoteUnreachable, SessionLost, StepTimeout
from raygym.gateway.lines import DM_METHOD, RAYGYM_METHOD, FramedLine, GrpcLine, Line, open_line
from raygym.runtimes.serve import serve_env
from raygym.wire.framing import frame
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm
from raygym.wire.proto import raygym_v1_pb2 as pb

HELLO = pb.Request(id=1, hello=pb.Hello(version=1)).SerializeToString()


def remote_at(endpoint: Endpoint | None) -> Remote:
    return Remote(id="r-1", runtime="gym-core", vnc=None, rewarder=None, rpc=endpoint)


def ask(remote: Remote, method: str, request: bytes, kind: type[Line]) -> bytes:
    async def work() -> bytes:
        line = await open_line(remote, method, timeout_s=10.0)
        assert isinstance(line, kind)
        try:
            return await line.ask(request)
        finally:
            await line.close()
            await line.close()

    return asyncio.run(work())


@pytest.mark.filterwarnings("ignore:.*render method without")
def test_the_cheapest_way_is_taken_that_the_remote_has(tmp_path: Path) -> None:
    with serve_env("CartPole-v1", bind=None, directory=tmp_path, is_in_process=True) as server:
        remote = remote_at(server.endpoint)
        welcome = pb.Response.FromString(ask(remote, RAYGYM_METHOD, HELLO, FramedLine)).welcome
        assert welcome.env_ids == ["CartPole-v1"]
        created = dm.EnvironmentRequest(create_world=dm.CreateWorldRequest()).SerializeToString()
        answer = ask(remote, DM_METHOD, created, GrpcLine)
        assert dm.EnvironmentResponse.FromString(answer).create_world.world_name


def test_over_tcp_a_remotes_token_goes_along() -> None:
    with serve_env("CartPole-v1", token="open-sesame", is_in_process=True) as server:
        remote = remote_at(server.endpoint)
        with pytest.raises(SessionLost, match="asks for a token"):
            ask(remote, RAYGYM_METHOD, HELLO, GrpcLine)
        known = replace(remote, password=Secret("open-sesame"))
        assert pb.Response.FromString(ask(known, RAYGYM_METHOD, HELLO, GrpcLine)).id == 1


def test_a_remote_without_lock_step_has_no_line() -> None:
    with pytest.raises(ConfigError, match="no lock-step endpoint"):
        ask(remote_at(None), RAYGYM_METHOD, HELLO, GrpcLine)


def test_a_remote_that_is_gone_is_told_apart_from_one_that_was_never_there(
    tmp_path: Path,
) -> None:
    with serve_env("CartPole-v1", bind=None, directory=tmp_path, is_in_process=True) as server:
        remote = remote_at(server.endpoint)
    with pytest.raises(SessionLost, match="r-1 ended the conversation"):
        ask(remote, DM_METHOD, b"", GrpcLine)


class TestFramed:
    @staticmethod
    def serve(path: Path, answer: Callable[[asyncio.StreamWriter], None]) -> Exception:
        """Returns what a line raises at a server that does something strange."""
        is_over = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(4 + len(HELLO))
            answer(writer)
            await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            is_over.set()

        async def work() -> Exception:
            async with await asyncio.start_unix_server(serve, path):
                line = await FramedLine.open(str(path), "r-1", timeout_s=0.2)
                with pytest.raises(Exception, match="r-1") as caught:
                    await line.ask(HELLO)
                await line.close()
                await is_over.wait()
            return caught.value  # type: ignore[return-value]

        return asyncio.run(work())

    def test_one_that_hangs_up_is_lost(self, tmp_path: Path) -> None:
        error = self.serve(tmp_path / "s", lambda writer: writer.close())
        assert isinstance(error, SessionLost)

    def test_one_that_hangs_up_within_an_answer_is_lost(self, tmp_path: Path) -> None:
        def half(writer: asyncio.StreamWriter) -> None:
            writer.write(frame(b"12345678")[:-1])
            writer.close()

        assert isinstance(self.serve(tmp_path / "s", half), SessionLost)

    def test_one_that_announces_too_much_is_lost(self, tmp_path: Path) -> None:
        def shout(writer: asyncio.StreamWriter) -> None:
            writer.write(b"\xff" * 20)
            writer.close()

        assert isinstance(self.serve(tmp_path / "s", shout), SessionLost)

    def test_one_that_says_nothing_is_overdue(self, tmp_path: Path) -> None:
        error = self.serve(tmp_path / "s", lambda _writer: None)
        assert isinstance(error, StepTimeout)

    def test_one_that_does_not_listen_any_more_is_out_of_reach(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with await asyncio.start_unix_server(lambda *_: None, tmp_path / "s"):
                pass
            await FramedLine.open(str(tmp_path / "s"), "r-1", timeout_s=1.0)

        with pytest.raises((RemoteUnreachable, FileNotFoundError)):
            asyncio.run(work())
