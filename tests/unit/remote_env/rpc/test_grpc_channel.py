from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from raygym.core import Endpoint, Secret
from raygym.errors import (
    HandshakeRefused,
    LocalProtocolError,
    RemoteUnreachable,
    SessionLost,
    StepTimeout,
)
from raygym.remote_env.rpc.channel import MethodUnknown
from raygym.remote_env.rpc.grpc_channel import GrpcChannel, target_of

LONG_S = 30.0
METHOD = "/test.Service/Talk"


@contextlib.contextmanager
def serving(behaviour: Callable[[Iterator[bytes], Any], Iterator[bytes]]) -> Iterator[Endpoint]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(futures.ThreadPoolExecutor(4), options=options)
    handler = grpc.stream_stream_rpc_method_handler(behaviour)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Service", {"Talk": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Endpoint(host="127.0.0.1", port=port)
    finally:
        server.stop(None).wait(LONG_S)


@contextlib.contextmanager
def talking(
    behaviour: Callable[[Iterator[bytes], Any], Iterator[bytes]], **options: Any
) -> Iterator[GrpcChannel]:
    with serving(behaviour) as endpoint:
        channel = GrpcChannel(endpoint, **{"method": METHOD, "name": "peer", **options})
        try:
            yield channel
        finally:
            channel.close()
            channel.close()


def echo(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    context.send_initial_metadata((("raygym-version", "1"),))
    yield from requests


def aborting(code: grpc.StatusCode, after: int = 0) -> Callable[..., Iterator[bytes]]:
    def behave(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for _ in range(after):
            yield next(requests)
        context.abort(code, "for a reason")

    return behave


def test_messages_go_both_ways_and_may_be_long():
    with talking(echo) as channel:
        assert channel.wait_open(timeout_s=LONG_S)["raygym-version"] == "1"
        for message in (b"", b"one", bytes(5_000_000)):
            assert channel.ask(message, timeout_s=LONG_S) == message


def test_the_token_is_a_bearer_token():
    seen: list[Any] = []

    def behave(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        seen.extend(context.invocation_metadata())
        yield from requests

    with talking(behave, token=Secret("hush")) as channel:
        channel.ask(b"x", timeout_s=LONG_S)
    assert ("authorization", "Bearer hush") in [tuple(item) for item in seen]


def test_an_answer_that_is_overdue_ends_the_stream():
    is_over = threading.Event()

    def behave(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.add_callback(is_over.set)
        yield next(requests)
        is_over.wait(LONG_S)

    with talking(behave) as channel:
        channel.ask(b"x", timeout_s=LONG_S)
        with pytest.raises(StepTimeout, match=r"peer did not answer within 0\.1 s"):
            channel.ask(b"x", timeout_s=0.1)
        assert is_over.wait(LONG_S)
        with pytest.raises(SessionLost, match="open another"):
            channel.ask(b"x", timeout_s=0.1)


def test_a_short_wait_after_a_long_one_is_kept_too():
    never = threading.Event()

    def behave(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        for request in requests:
            if request == b"wait":
                never.wait(LONG_S)
            yield request

    try:
        with talking(behave) as channel:
            for timeout_s in (LONG_S, 0.5 * LONG_S, LONG_S, LONG_S):
                channel.ask(b"x", timeout_s=timeout_s)
            with pytest.raises(StepTimeout):
                channel.ask(b"wait", timeout_s=0.1)
            never.set()
    finally:
        never.set()


def test_a_server_that_opens_no_stream_is_silent():
    never = threading.Event()

    def behave(_requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        never.wait(LONG_S)
        return iter(())

    with talking(behave) as channel:
        with pytest.raises(
            RemoteUnreachable, match=r"did not open a stream within 0\.1 s"
        ) as caught:
            channel.wait_open(timeout_s=0.1)
        never.set()
    assert caught.value.problem == "silent"


def test_a_stream_that_ends_is_lost():
    def behave(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        yield next(requests)

    with talking(behave) as channel:
        channel.ask(b"x", timeout_s=LONG_S)
        with pytest.raises(SessionLost, match="ended the conversation"):
            channel.ask(b"x", timeout_s=LONG_S)


@pytest.mark.parametrize(
    ("code", "kind", "problem"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, HandshakeRefused, "token_missing"),
        (grpc.StatusCode.PERMISSION_DENIED, HandshakeRefused, "token_missing"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RemoteUnreachable, "too_many_streams"),
        (grpc.StatusCode.UNIMPLEMENTED, MethodUnknown, "method_unknown"),
        (grpc.StatusCode.UNAVAILABLE, RemoteUnreachable, "lost"),
        (grpc.StatusCode.INTERNAL, RemoteUnreachable, "lost"),
    ],
)
def test_a_status_at_the_start_says_what_is_wrong(code, kind, problem):
    with (
        talking(aborting(code)) as channel,
        pytest.raises(kind, match="for a reason") as caught,
    ):
        channel.wait_open(timeout_s=LONG_S)
    assert caught.value.problem == problem


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, LocalProtocolError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, SessionLost),
        (grpc.StatusCode.UNAVAILABLE, SessionLost),
        (grpc.StatusCode.INTERNAL, SessionLost),
    ],
)
def test_a_status_later_on_says_what_is_wrong(code, kind):
    with talking(aborting(code, after=1)) as channel:
        channel.ask(b"x", timeout_s=LONG_S)
        with pytest.raises(kind, match="for a reason"):
            channel.ask(b"x", timeout_s=LONG_S)


def test_a_wrong_token_is_told_from_a_missing_one():
    with (
        talking(aborting(grpc.StatusCode.UNAUTHENTICATED), token=Secret("hush")) as channel,
        pytest.raises(HandshakeRefused, match="is it the right one") as caught,
    ):
        channel.wait_open(timeout_s=LONG_S)
    assert caught.value.problem == "token_wrong"


def test_a_method_that_the_server_does_not_know():
    with talking(echo, method="/test.Service/Other") as channel, pytest.raises(MethodUnknown):
        channel.wait_open(timeout_s=LONG_S)


def test_it_leaves_no_thread_behind():
    before = set(threading.enumerate())
    with talking(echo) as channel:
        channel.ask(b"x", timeout_s=LONG_S)
        watch = [t for t in threading.enumerate() if t.name == "raygym rpc watch"]
        assert watch
    for thread in watch:
        if thread not in before:
            thread.join(LONG_S)
            assert not thread.is_alive()


@pytest.mark.parametrize("is_kept_alive", [True, False])
def test_only_servers_that_expect_it_are_asked_whether_they_live(monkeypatch, is_kept_alive):
    seen: list[dict[str, Any]] = []
    plain = grpc.insecure_channel

    def insecure_channel(target: str, options: list[tuple[str, Any]]) -> grpc.Channel:
        seen.append(dict(options))
        return plain(target, options)

    monkeypatch.setattr(grpc, "insecure_channel", insecure_channel)
    GrpcChannel(Endpoint(host="127.0.0.1", port=1), is_kept_alive=is_kept_alive).close()
    assert ("grpc.keepalive_time_ms" in seen[0]) is is_kept_alive
    assert seen[0]["grpc.max_receive_message_length"] == -1


def test_a_channel_that_is_dropped_ends_its_stream():
    is_over = threading.Event()

    def behave(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.add_callback(is_over.set)
        yield from requests

    with serving(behave) as endpoint:
        channel = GrpcChannel(endpoint, method=METHOD)
        channel.ask(b"x", timeout_s=LONG_S)
        del channel
        gc.collect()
        assert is_over.wait(LONG_S)


def test_targets_of_endpoints():
    assert target_of(Endpoint(host="::1", port=5)) == "[::1]:5"
    assert target_of(Endpoint(host="a.b", port=5)) == "a.b:5"
    assert target_of(Endpoint(path="/run/x.sock")) == "unix:/run/x.sock"
