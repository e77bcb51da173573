"""A conversation over gRPC: one stream on a connection of its own."""

from __future__ import annotations

import math
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc

from raygym.core import Endpoint, Secret
from raygym.errors import (
    ConfigError,
    HandshakeRefused,
    LocalProtocolError,
    RaygymError,
    RemoteUnreachable,
    SessionLost,
    StepTimeout,
)
from raygym.remote_env.rpc.channel import METHOD, MethodUnknown

_KEEPALIVE_S = 30.0
_KEEPALIVE_TIMEOUT_S = 20.0
_STATUS_S = 0.25
"""How long a status may take to follow initial metadata that says nothing."""
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Else channels of one process to one server share a connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]
_KEEPALIVE_OPTIONS = [
    ("grpc.keepalive_time_ms", int(_KEEPALIVE_S * 1000)),
    ("grpc.keepalive_timeout_ms", int(_KEEPALIVE_TIMEOUT_S * 1000)),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


class GrpcChannel:
    """One stream of a gRPC method, with serialised messages both ways.

    A thread beside it ends the stream when an answer is overdue.

    Args:
        endpoint: Where the server listens.
        method: Full name of a stream-stream method.
        credentials: Of TLS; None speaks plaintext.
        token: Sent as ``authorization: Bearer TOKEN``.
        is_kept_alive: Whether to ask a silent server now and then whether it lives. Servers
            that do not expect it hang up on it.
        name: Of the server, for messages.

    Raises:
        ConfigError: The token cannot be sent in a header.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        method: str = METHOD,
        credentials: grpc.ChannelCredentials | None = None,
        token: Secret | None = None,
        is_kept_alive: bool = True,
        name: str = "",
    ) -> None:
        options = [*_OPTIONS, *(_KEEPALIVE_OPTIONS if is_kept_alive else ())]
        target = target_of(endpoint)
        self._name = name or target
        self._has_token = token is not None
        metadata = () if token is None else (("authorization", _bearer(token)),)
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            self._channel = grpc.secure_channel(target, credentials, options)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        requests: Iterator[bytes] = iter(self._requests.get, None)
        stream: Any = self._channel.stream_stream(method)
        self._call: Any = stream(requests, metadata=metadata)
        self._was_answered = False
        self._watch = _Watch(self._call.cancel)
        # Threads wait for its parts, so that nothing else would end a channel that is dropped.
        self._end = weakref.finalize(
            self, _end, self._watch, self._requests, self._call, self._channel
        )

    def wait_open(self, *, timeout_s: float) -> Mapping[str, str]:
        """Waits for the server's initial metadata and returns it, names in lower case.

        Raises:
            MethodUnknown: The server has no such method.
            HandshakeRefused: The token is missing or wrong.
            RemoteUnreachable: The server does not answer, or takes no more streams.
        """
        with self._watch.until(timeout_s) as guard:
            metadata = self._call.initial_metadata()
            is_over = not metadata and self._ends_soon()
        if guard.has_fired or is_over:
            error = self._call
            self.close()
            if guard.has_fired:
                raise RemoteUnreachable(
                    f"{self._name} takes connections, and did not open a stream within "
                    f"{timeout_s:g} s",
                    problem="silent",
                )
            raise self._exception(error)
        return {key: str(value) for key, value in metadata}

    def ask(self, request: bytes, *, timeout_s: float) -> bytes:
        """See ``RpcChannel``."""
        if not self._end.alive:
            raise SessionLost(f"{self._name}: the conversation is over; open another")
        with self._watch.until(timeout_s) as guard:
            self._requests.put(request)
            try:
                answer: bytes = next(self._call)
            except StopIteration:
                self.close()
                raise SessionLost(f"{self._name} ended the conversation") from None
            except grpc.RpcError as error:
                self.close()
                if guard.has_fired:
                    raise StepTimeout(
                        f"{self._name} did not answer within {timeout_s:g} s"
                    ) from None
                raise self._exception(error) from error
            except BaseException:
                self.close()
                raise
        self._was_answered = True
        return answer

    def close(self) -> None:
        """See ``RpcChannel``."""
        self._end()

    def _ends_soon(self) -> bool:
        """Whether the stream has ended, or a status is on its way that says why it does."""
        ended = threading.Event()
        if not self._call.add_callback(ended.set):
            return True
        return ended.wait(_STATUS_S)

    def _exception(self, error: Any) -> RaygymError:
        code, said = error.code(), error.details() or "it gives no reason"
        text = f"{self._name}: {said} ({code.name})"
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return MethodUnknown(text, problem="method_unknown")
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return self._token_error(said)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and self._was_answered:
            return LocalProtocolError(text)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return RemoteUnreachable(
                f"{self._name} takes no more conversations: {said}", problem="too_many_streams"
            )
        if self._was_answered:
            return SessionLost(text, problem="lost")
        return RemoteUnreachable(text, problem="lost")

    def _token_error(self, said: str) -> HandshakeRefused:
        if self._has_token:
            return HandshakeRefused(
                f"{self._name} refused the token: {said}; is it the right one?",
                problem="token_wrong",
            )
        return HandshakeRefused(
            f"{self._name} asks for a token: {said}; give token=..., or ?token=... in the address",
            problem="token_missing",
        )


class _Guard:
    """One wait."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch
        self.has_fired = False

    def __enter__(self) -> _Guard:
        return self

    def __exit__(self, *_error: object) -> None:
        self._watch.disarm()


class _Watch:
    """Calls a function when a wait is overdue; one thread for all waits, one after the other.

    Args:
        fire: Called from the thread.
    """

    def __init__(self, fire: Callable[[], object]) -> None:
        self._fire = fire
        self._changed = threading.Condition()
        self._deadline_s = math.inf
        self._wakes_at_s = math.inf
        self._guard: _Guard | None = None
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def until(self, timeout_s: float) -> _Guard:
        """Begins a wait; it ends with the context."""
        guard = self._guard = _Guard(self)
        self._deadline_s = time.monotonic() + timeout_s
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="raygym rpc watch", daemon=True)
            self._thread.start()
        # The thread looks again whenever it wakes, so only a shorter wait must wake it.
        elif self._deadline_s < self._wakes_at_s:
            with self._changed:
                self._changed.notify()
        return guard

    def disarm(self) -> None:
        """Ends a wait."""
        self._deadline_s = math.inf

    def close(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._is_closed:
                # Until a wait is announced below, each new one notifies.
                self._wakes_at_s = math.inf
                deadline_s = self._deadline_s
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    if self._guard is not None:
                        self._guard.has_fired = True
                    self._fire()
                    return
                self._wakes_at_s = deadline_s
                self._changed.wait(None if math.isinf(left_s) else left_s)


def _end(
    watch: _Watch, requests: queue.SimpleQueue[bytes | None], call: Any, channel: grpc.Channel
) -> None:
    watch.close()
    requests.put(None)
    call.cancel()
    channel.close()


def target_of(endpoint: Endpoint) -> str:
    """Returns gRPC's name of an endpoint."""
    if endpoint.path is not None:
        return f"unix:{endpoint.path}"
    host = endpoint.host or ""
    return f"[{host}]:{endpoint.port}" if ":" in host else f"{host}:{endpoint.port}"


def _bearer(token: Secret) -> str:
    value = token.reveal()
    if not (value.isascii() and value.isprintable()):
        raise ConfigError("token: only printable ASCII characters can be sent in a header")
    return f"Bearer {value}"
