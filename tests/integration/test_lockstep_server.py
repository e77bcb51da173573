from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raygym.errors import ConfigError
from raygym.runtimes.serve import serve_env
from raygym.wire.proto import raygym_v1_pb2 as pb
from tests.support.lockstep import (
    HERE,
    Client,
    Frames,
    Grpc,
    in_threads,
    observations,
    trouble,
)
from tests.support.process_tree import all_end
from tests.support.process_tree import descendants as descendants_of

ROOT = Path(__file__).parents[2]
STEP_TIMEOUT_S = 3.0


def until(check, timeout_s: float = 20.0):
    """Waits for something to come true; returns what it was at last."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := check()) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return value


def descendants() -> set[int]:
    return descendants_of(os.getpid())


@pytest.fixture(scope="module")
def server():
    with serve_env(trouble, step_timeout_s=STEP_TIMEOUT_S, max_message_bytes=2**20) as server:
        yield server


@pytest.fixture(params=["framed", "grpc"])
def client(server, request):
    if request.param == "framed":
        carrier = Frames(server.local_socket)
    else:
        carrier = Grpc(str(server.endpoint))
    with Client(carrier) as client:
        client.hello()
        yield client


def test_a_conversation_plays_episodes_over_either_carrier(client):
    made = client.make(count=3, kwargs=pb.Map(items={"length": pb.Value(integer=2)}))
    assert made.action_space.discrete.n == 10
    batch = client.reset(seeds=[5, 6, -1])
    assert observations(batch).tolist() == [[5, 0], [6, 0], [0, 0]]
    assert [info.map.items["seed"].integer for info in batch.infos[:2]] == [5, 6]
    batch = client.step(0, 0, 0).batch
    assert np.frombuffer(batch.rewards).tolist() == [1, 1, 1]
    batch = client.step(0, 8, 0).batch
    assert batch.terminated == bytes([1, 0, 1])
    assert np.frombuffer(batch.rewards).tolist() == [1, 0.5, 1]
    batch = client.step(9, 0, 0).batch
    assert observations(batch).tolist() == [[0, 0], [0, 3], [0, 0]]


def test_each_conversation_has_a_process_of_its_own(server):
    def pid(_index):
        with Client(Frames(server.local_socket)) as client:
            client.hello()
            client.make()
            client.reset()
            return client.step(8).batch.infos[0].map.items["pid"].integer

    pids = in_threads(2, pid)
    assert len({*pids, os.getpid()}) == 3
    assert all_end(pids)


@pytest.mark.parametrize(
    ("trouble", "outcome", "code", "words"),
    [
        (2, "env_failure", pb.Error.INTERNAL, "exit code 7"),
        (3, "env_failure", pb.Error.INTERNAL, "SIGSEGV"),
        (4, "timeout", pb.Error.DEADLINE_EXCEEDED, f"within {STEP_TIMEOUT_S:g} s"),
    ],
)
def test_an_env_that_takes_its_process_down_or_hangs_is_a_failure_and_reset_works_again(
    client, trouble, outcome, code, words
):
    client.make(count=2)
    client.reset()
    started_s = time.monotonic()
    batch = client.step(trouble, 0).batch
    assert time.monotonic() - started_s < STEP_TIMEOUT_S + 5
    assert [(f.env, f.outcome, f.error.code) for f in batch.failures] == [
        (0, outcome, code),
        (1, outcome, code),
    ]
    assert words in batch.failures[0].error.message
    assert (batch.terminated, batch.truncated) == (bytes(2), bytes([1, 1]))
    assert observations(batch).tolist() == [[0, 0], [0, 0]]
    assert observations(client.reset(seeds=[3, 4])).tolist() == [[3, 0], [4, 0]]
    assert not client.step(0, 0).batch.failures


def test_a_step_with_autoreset_begins_anew_after_the_process_was_lost(client):
    client.make(count=1)
    client.reset(seeds=[9])
    assert client.step(2).batch.failures
    batch = client.step(0).batch
    assert not batch.failures
    assert observations(batch).tolist() == [[0, 0]]


def test_envs_that_were_not_asked_for_are_told_of_once_when_their_process_was_lost(client):
    client.make(count=3)
    client.reset()
    assert [f.env for f in client.step(2, envs=[1]).batch.failures] == [1]
    batch = client.step(0, 0, 0).batch
    assert [f.env for f in batch.failures] == [0, 2]
    assert "exit code 7" in batch.failures[0].error.message
    assert batch.truncated == bytes([1, 0, 1])
    assert not client.step(0, 0, 0).batch.failures


def test_a_process_that_is_lost_again_and_again_is_replaced_each_time(client):
    client.make()
    for _ in range(3):
        client.reset()
        assert client.step(2).batch.failures
    assert not client.reset().failures


def test_a_process_lost_between_two_requests_is_told_of_at_the_next_step(client):
    client.make()
    client.reset()
    pid = client.step(8).batch.infos[0].map.items["pid"].integer
    stat = Path(f"/proc/{pid}/stat")
    assert until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S")
    os.kill(pid, signal.SIGKILL)
    assert all_end([pid])
    batch = client.step(0).batch
    assert "SIGKILL" in batch.failures[0].error.message
    assert not client.step(0).batch.failures


def test_an_env_that_raises_names_type_message_and_traceback_and_the_stream_lives(client):
    client.make(count=2)
    client.reset()
    batch = client.step(1, 0).batch
    [failure] = batch.failures
    assert (failure.env, failure.error.type) == (0, "ValueError")
    assert failure.error.message == "told to raise"
    assert 'raise ValueError("told to raise")' in failure.error.traceback
    assert np.frombuffer(batch.rewards).tolist() == [0, 1]
    assert not client.step(0, 0).batch.failures


def test_a_factory_that_raises_is_an_error_and_the_server_lives():
    with (
        serve_env("tests.support.lockstep:broken") as server,
        Client(Frames(server.local_socket)) as client,
    ):
        client.hello()
        for _ in range(2):
            error = client.ask(make=pb.Make()).error
            assert (error.type, error.message) == ("OSError", "no such thing here")
            assert "in broken" in error.traceback


def test_observations_come_through_shared_memory_on_one_machine():
    space = np.zeros((210, 160, 3), np.uint8)
    with serve_env("tests.support.lockstep:pictures") as server:
        with Client(Frames(server.local_socket)) as client:
            client.hello()
            made = client.make(wants_shared_memory=True)
            assert made.shared_memory_bytes >= space.nbytes
            memory = np.memmap(made.shared_memory, np.uint8, "r")
            for turn in range(2):
                batch = client.reset(seeds=[turn + 7])
                array = batch.observations[0].array
                assert (array.HasField("offset"), array.data) == (True, b"")
                assert (memory[array.offset : array.offset + space.nbytes] == turn + 7).all()
                client.step(2)
        with Client(Frames(server.local_socket)) as client:
            client.hello(machine="another")
            assert client.make(wants_shared_memory=True).shared_memory == ""
            assert client.reset(seeds=[1]).observations[0].array.data == bytes([1]) * space.nbytes


def test_the_local_socket_is_named_to_clients_of_this_machine_only(server):
    with Client(Grpc(str(server.endpoint))) as client:
        assert client.hello().local_socket == server.local_socket
    with Client(Grpc(str(server.endpoint))) as client:
        assert client.hello(machine="another").local_socket == ""


def test_streams_beyond_the_limit_are_refused_and_the_rest_are_served():
    """100 at a time, over both carriers."""
    with serve_env(
        trouble, max_streams=20, is_in_process=True, step_timeout_s=60, start_timeout_s=60
    ) as server:
        ready = []

        def play(index: int):
            framed = index % 2
            client = Client(
                Frames(server.local_socket) if framed else Grpc(str(server.endpoint), timeout_s=60)
            )
            try:
                response = client.ask(hello=pb.Hello(version=1))
                if response.HasField("error"):
                    return response.error.code
                client.make()
                client.reset()
                ready.append(index)
                assert until(lambda: server.streams == 20 or len(ready) >= 20)
                return "ok" if not client.step(0).batch.failures else "failed"
            except grpc.RpcError as error:
                return error.code().value[0]
            finally:
                client.close()

        results = in_threads(100, play)
        refused = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert set(results) <= {"ok", refused}, results
        assert results.count("ok") >= 20
        assert until(lambda: server.streams == 0)
        with Client(Frames(server.local_socket)) as client:
            assert client.hello().runtime == "gym-core"


def test_a_token_is_asked_for_over_grpc():
    with serve_env(trouble, token="sesame", is_in_process=True) as server:
        for metadata in ((), (("authorization", "Bearer wrong"),)):
            with Client(Grpc(str(server.endpoint), metadata)) as client:
                with pytest.raises(grpc.RpcError) as refused:
                    client.hello()
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
                assert "token" in refused.value.details()
                assert "sesame" not in refused.value.details()
        with Client(Grpc(str(server.endpoint), (("authorization", "Bearer sesame"),))) as client:
            assert client.hello().version == 1


def test_the_server_says_which_it_is_in_the_initial_metadata(server):
    with Client(Grpc(str(server.endpoint))) as client:
        client.hello()
        assert ("raygym-version", "1") in client.carrier.call.initial_metadata()


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1"])
def test_plaintext_is_refused_where_others_could_listen(bind):
    with pytest.raises(ConfigError, match="raygym certs init"):
        serve_env(trouble, bind=bind)


def test_an_address_that_is_taken_is_a_config_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="cannot listen on"):
            serve_env(trouble, port=taken.getsockname()[1])


def test_a_message_beyond_the_limit_is_a_clear_error(server):
    with Client(Frames(server.local_socket)) as client:
        client.hello()
        error = client.ask(hello=pb.Hello(version=1, client_id="x" * 2**21)).error
        assert error.code == pb.Error.RESOURCE_EXHAUSTED
        assert str(2**20) in error.message
        client.make()
        client.reset()
        error = client.ask(hello=pb.Hello(version=1, client_id="x" * 2**21)).error
        assert error.code == pb.Error.RESOURCE_EXHAUSTED
        assert not client.step(0).batch.failures
    with Client(Grpc(str(server.endpoint))) as client:
        client.hello()
        with pytest.raises(grpc.RpcError) as refused:
            client.ask(hello=pb.Hello(version=1, client_id="x" * 2**21))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(2**20) in refused.value.details()


def test_a_conversation_that_asks_nothing_is_ended():
    with serve_env(trouble, idle_timeout_s=0.5) as server:
        with Client(Frames(server.local_socket)) as client:
            client.hello()
            client.make()
            with pytest.raises(ConnectionError):
                client.carrier.read()
        with Client(Grpc(str(server.endpoint))) as client:
            client.hello()
            with pytest.raises(grpc.RpcError) as ended:
                next(client.carrier.call)
            assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert until(lambda: server.streams == 0)


requests = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda number, data, field: (
            pb.Request(id=number).SerializeToString()
            + bytes([field << 3 | 2])
            + len(data).to_bytes(1, "little")
            + data
        ),
        st.integers(0, 2**64 - 1),
        st.binary(max_size=100),
        st.integers(1, 8),
    ),
    st.builds(
        lambda count, mode: pb.Request(
            make=pb.Make(count=count, autoreset=mode)
        ).SerializeToString(),
        st.integers(0, 5) | st.integers(1025, 2**32 - 1),
        st.integers(0, 5),
    ),
    st.builds(
        lambda envs, seeds: pb.Request(reset=pb.Reset(envs=envs, seeds=seeds)).SerializeToString(),
        st.lists(st.integers(0, 2**32 - 1), max_size=4),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    ),
    st.builds(
        lambda dtype, shape, data: pb.Request(
            step=pb.Step(actions=[pb.Leaf(array=pb.Array(dtype=dtype, shape=shape, data=data))])
        ).SerializeToString(),
        st.sampled_from(["<i8", "<f4", "|O", "<U9", "junk", ""]),
        st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=4),
        st.binary(max_size=64),
    ),
    st.just(pb.Request(hello=pb.Hello(version=1)).SerializeToString()),
    st.just(pb.Request(make=pb.Make(count=2)).SerializeToString()),
    st.just(pb.Request(reset=pb.Reset()).SerializeToString()),
)


@pytest.fixture(scope="module")
def fuzzed():
    with serve_env(trouble, max_message_bytes=4096, is_in_process=True) as server:
        yield server


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(requests, max_size=12))
def test_fuzzed_requests_get_one_response_each_and_never_hurt_the_server(fuzzed, messages):
    with Client(Frames(fuzzed.local_socket)) as client:
        for message in messages:
            pb.Response.FromString(client.carrier.exchange(message))
    with Client(Frames(fuzzed.local_socket)) as client:
        assert client.hello().version == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=300))
def test_fuzzed_bytes_never_hurt_the_server(fuzzed, data):
    with Client(Frames(fuzzed.local_socket)) as client:
        client.carrier.sock.sendall(data)
    with socket.create_connection((fuzzed.endpoint.host, fuzzed.endpoint.port), 10) as sock:
        sock.sendall(data)
    with Client(Frames(fuzzed.local_socket)) as client:
        assert client.hello().version == 1


def test_fuzzed_requests_never_hurt_a_server_with_processes(server):
    @settings(max_examples=8)
    @given(messages=st.lists(requests, max_size=12))
    def run(messages):
        for carrier in (Frames(server.local_socket), Grpc(str(server.endpoint))):
            with Client(carrier) as client:
                client.hello()
                client.make()
                for message in messages:
                    pb.Response.FromString(client.carrier.exchange(message))

    run()
    with Client(Frames(server.local_socket)) as client:
        assert client.hello().version == 1


def count_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def shared_files() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}


def test_closing_leaves_nothing_behind(tmp_path):
    before, shared = descendants(), shared_files()
    fds = count_fds()
    with serve_env(trouble, directory=tmp_path) as server:
        framed = Client(Frames(server.local_socket))
        grpced = Client(Grpc(str(server.endpoint)))
        for client in (framed, grpced):
            client.hello()
            client.make(wants_shared_memory=True, count=2000 // 2)
            client.reset()
        assert len(descendants() - before) == 2
        assert (tmp_path / "lockstep.sock").exists()
    assert until(lambda: descendants() <= before)
    framed.close()
    grpced.close()
    assert list(tmp_path.iterdir()) == []
    assert shared_files() == shared
    assert until(lambda: count_fds() <= fds + 8)


def test_a_killed_client_leaves_nothing_behind(server):
    before = descendants()
    code = (
        "import sys; from tests.support.lockstep import *\n"
        "carrier = Frames('\\0' + sys.argv[1]) if sys.argv[2] == 'framed' else Grpc(sys.argv[3])\n"
        "client = Client(carrier); client.hello(); client.make(wants_shared_memory=True)\n"
        "client.reset(); print('up', flush=True); client.step(4)\n"
    )
    for carrier in ("framed", "grpc"):
        arguments = [server.local_socket[1:], carrier, str(server.endpoint)]
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "up\n"
        assert len(descendants() - before - {process.pid}) == 1
        process.kill()
        process.wait()
        process.stdout.close()
        assert until(lambda: descendants() <= before)
        assert until(lambda: server.streams == 0)


def run_remote(directory: Path, *arguments: str) -> tuple[subprocess.Popen, dict]:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "raygym.runtimes",
            "gym-core",
            "--directory",
            str(directory),
            *arguments,
        ],
        cwd=ROOT,
        start_new_session=True,
    )
    ready = directory / "ready.json"
    assert until(lambda: ready.exists() or process.poll() is not None)
    return process, json.loads(ready.read_text())


def test_gym_core_serves_a_remote_that_ends_cleanly(tmp_path):
    process, said = run_remote(tmp_path, "--env", "CartPole-v1")
    try:
        assert said["runtime"] == "gym-core"
        assert said["rpc"] == f"unix:{tmp_path}/rpc.sock"
        assert said["rpc_socket"] == f"{tmp_path}/lockstep.sock"
        for carrier in (Frames(said["rpc_socket"]), Grpc(said["rpc"])):
            with Client(carrier) as client:
                assert list(client.hello().env_ids) == ["CartPole-v1"]
                client.make(env_id="CartPole-v1", count=2)
                client.reset(seeds=[1, 2])
                assert not client.step(0, 1).batch.failures
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
        process.wait()


def test_a_killed_server_leaves_no_processes_behind(tmp_path):
    shared = shared_files()
    process, said = run_remote(tmp_path, "--env", f"{HERE}:trouble")
    try:
        clients = [Client(Frames(said["rpc_socket"])), Client(Grpc(said["rpc"]))]
        for client in clients:
            client.hello()
            client.make(wants_shared_memory=True)
            client.reset()
        workers = descendants_of(process.pid)
        assert len(workers) == 2
        process.kill()
        process.wait()
        assert all_end(workers)
        with pytest.raises(ConnectionError):
            clients[0].step(0)
        with pytest.raises(grpc.RpcError):
            clients[1].step(0)
        assert shared_files() == shared
        for client in clients:
            client.close()
    finally:
        process.kill()
        process.wait()


def test_the_abstract_socket_is_gone_with_a_killed_server():
    name = (
        "\0"
        + subprocess.run(
            [
                sys.executable,
                "-c",
                "import os; from raygym.runtimes.serve import serve_env\n"
                "server = serve_env('CartPole-v1')\n"
                "print(server.local_socket[1:], flush=True); os.kill(os.getpid(), 9)",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    )
    assert len(name) > 8
    with pytest.raises(ConnectionRefusedError):
        Frames(name)
