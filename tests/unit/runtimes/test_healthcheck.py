import asyncio
import contextlib
import json

import pytest

from raygym.errors import HandshakeRefused, RemoteProtocolError, RemoteUnreachable
from raygym.runtimes import healthcheck
from raygym.runtimes.in_process import InProcessHost
from raygym.wire.framing import FrameReader, frame
from raygym.wire.proto import raygym_v1_pb2 as pb

PASSWORD = "hunter22"


@pytest.fixture
def remote(tmp_path):
    """The directory of a Remote that plays Catch."""
    host = InProcessHost()
    host.start("catch", tmp_path, PASSWORD)
    (tmp_path / "password").write_text(PASSWORD)
    yield tmp_path
    host.stop()


def look(directory, *, timeout_s=10.0):
    return asyncio.run(healthcheck.check(directory, timeout_s=timeout_s))


@contextlib.asynccontextmanager
async def lockstep_that_says(directory, answer):
    """Listens at ``lockstep.sock``; ``answer`` makes the bytes that answer a Request."""

    async def converse(reader, writer):
        frames = FrameReader()
        asked = []
        while not asked:
            asked = frames.feed(await reader.read(1000))
        writer.write(answer(pb.Request.FromString(asked[0])))
        writer.close()

    path = directory / "lockstep.sock"
    (directory / "ready.json").write_text(json.dumps({"rpc_socket": str(path)}))
    async with await asyncio.start_unix_server(converse, path):
        yield


async def look_at_lockstep(directory, answer):
    async with lockstep_that_says(directory, answer):
        return await healthcheck.check(directory)


def test_a_screen_and_a_reward_channel_that_answer_are_well(remote):
    assert look(remote) == ["vnc: 384x96", "rewarder: waiting for a reset"]


def test_looking_takes_no_clients_place(remote):
    for _ in range(3):
        assert len(look(remote)) == 2


def test_a_wrong_password_is_no_health(remote):
    (remote / "password").write_text("wrong")
    with pytest.raises(HandshakeRefused, match="password"):
        look(remote)


def test_a_reward_channel_that_turns_us_away_is_no_health(remote):
    ready = json.loads((remote / "ready.json").read_text())
    (remote / "ready.json").write_text(json.dumps({"rewarder": ready["rewarder"]}))
    (remote / "password").write_text("wrong")
    with pytest.raises(RemoteProtocolError, match="Invalid password"):
        look(remote)


def test_a_lockstep_server_that_welcomes_is_well(tmp_path):
    def welcome(request):
        said = pb.Welcome(version=1, runtime="gym-core")
        return frame(pb.Response(id=request.id, welcome=said).SerializeToString())

    said = asyncio.run(look_at_lockstep(tmp_path, welcome))
    assert said == ["lock-step: gym-core version 1"]


def test_a_lockstep_server_that_refuses_is_quoted(tmp_path):
    def refuse(request):
        said = pb.Error(code=pb.Error.RESOURCE_EXHAUSTED, message="full house")
        return frame(pb.Response(id=request.id, error=said).SerializeToString())

    with pytest.raises(RemoteProtocolError, match="full house"):
        asyncio.run(look_at_lockstep(tmp_path, refuse))


def test_a_lockstep_server_that_hangs_up_is_no_health(tmp_path):
    with pytest.raises(RemoteUnreachable, match="closed before a Welcome came"):
        asyncio.run(look_at_lockstep(tmp_path, lambda _: b""))


def test_an_endpoint_that_keeps_silent_is_given_up(tmp_path):
    async def scenario():
        ended = asyncio.Event()

        async def keep_silent(reader, writer):
            await reader.read()
            writer.close()
            ended.set()

        path = tmp_path / "vnc.sock"
        (tmp_path / "ready.json").write_text(json.dumps({"vnc": f"unix:{path}"}))
        async with await asyncio.start_unix_server(keep_silent, path):
            with pytest.raises(RemoteUnreachable, match=r"vnc at unix:.*no answer within 0.05 s"):
                await healthcheck.check(tmp_path, timeout_s=0.05)
            await asyncio.wait_for(ended.wait(), 10)

    asyncio.run(scenario())


def test_an_endpoint_where_nobody_listens_is_no_health(tmp_path):
    (tmp_path / "ready.json").write_text(json.dumps({"vnc": f"unix:{tmp_path}/vnc.sock"}))
    with pytest.raises(RemoteUnreachable, match="vnc at unix:"):
        look(tmp_path)


def test_a_tcp_endpoint_is_looked_at_too(tmp_path):
    async def scenario():
        async def hang_up(_, writer):
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        (tmp_path / "ready.json").write_text(json.dumps({"vnc": f"127.0.0.1:{port}"}))
        async with server:
            await healthcheck.check(tmp_path)

    with pytest.raises(RemoteUnreachable, match="closed during the handshake"):
        asyncio.run(scenario())


@pytest.mark.parametrize("content", [None, "not json", "{}"])
def test_a_directory_without_a_ready_remote_is_no_health(tmp_path, content):
    if content is not None:
        (tmp_path / "ready.json").write_text(content)
    with pytest.raises(RemoteUnreachable):
        look(tmp_path)


def test_the_command_prints_what_answered(remote, capsys):
    assert healthcheck.main([str(remote)]) == 0
    assert capsys.readouterr().out == "vnc: 384x96; rewarder: waiting for a reset\n"


def test_the_command_exits_with_1_and_says_why(tmp_path, capsys):
    assert healthcheck.main([str(tmp_path)]) == 1
    assert "no Remote is ready there" in capsys.readouterr().err
