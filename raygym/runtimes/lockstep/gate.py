"""Who may open a conversation, and how many there may be."""

from __future__ import annotations

import hmac
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from raygym.core import Secret
from raygym.runtimes.lockstep.conversation import Conversation

_Behaviour = Callable[[Any, Any], Any]


class Streams:
    """Counts the conversations of one server.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        """How many there are."""

    def enter(self) -> bool:
        """Counts one more, unless there are too many; returns whether it may begin."""
        if self.count >= self.most:
            return False
        self.count += 1
        return True

    def leave(self) -> None:
        """Counts one less."""
        self.count -= 1

    @property
    def refusal(self) -> str:
        """What to say to one that may not begin."""
        return (
            f"this server holds its {self.most} conversations already; end one, or start the "
            "server with a larger max_streams"
        )


class CountedConversation:
    """A conversation that counts until it is closed.

    Args:
        conversation: The conversation.
        streams: Counts it already.
    """

    def __init__(self, conversation: Conversation, streams: Streams) -> None:
        self._conversation = conversation
        self._streams = streams
        self._is_closed = False

    async def ask(self, request: bytes) -> bytes:
        """Returns the response to a serialised request."""
        return await self._conversation.ask(request)

    async def close(self) -> None:
        """Ends the environments. May be called twice."""
        if not self._is_closed:
            self._is_closed = True
            try:
                await self._conversation.close()
            finally:
                self._streams.leave()


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Checks the token of every stream, and counts it.

    Args:
        streams: The count.
        token: What a client must know; None asks for nothing.
    """

    def __init__(self, streams: Streams, token: Secret | None) -> None:
        self._streams = streams
        self._expected = None if token is None else f"Bearer {token.reveal()}".encode()

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Returns the handler of a call, or one that refuses it."""
        why_not = self._why_not(handler_call_details.invocation_metadata)
        if why_not is not None:
            return _refusing(grpc.StatusCode.UNAUTHENTICATED, why_not)
        handler = await continuation(handler_call_details)
        if handler is None or handler.stream_stream is None:
            return handler
        return grpc.stream_stream_rpc_method_handler(
            self._counted(handler.stream_stream),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _why_not(self, metadata: Any) -> str | None:
        if self._expected is None:
            return None
        given = next((value for key, value in metadata if key == "authorization"), None)
        if given is None:
            return "this server asks for a token, and none came: `authorization: Bearer TOKEN`"
        given_bytes = given if isinstance(given, bytes) else str(given).encode()
        if hmac.compare_digest(given_bytes, self._expected):
            return None
        return "the token is not this server's"

    def _counted(self, behaviour: _Behaviour) -> _Behaviour:
        if inspect.isasyncgenfunction(behaviour):

            async def iterated(requests: Any, context: Any) -> AsyncIterator[Any]:
                await self._enter(context)
                try:
                    async for response in behaviour(requests, context):
                        yield response
                finally:
                    self._streams.leave()

            return iterated

        async def awaited(requests: Any, context: Any) -> None:
            await self._enter(context)
            try:
                await behaviour(requests, context)
            finally:
                self._streams.leave()

        return awaited

    async def _enter(self, context: Any) -> None:
        if not self._streams.enter():
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, self._streams.refusal)


def _refusing(code: grpc.StatusCode, why: str) -> grpc.RpcMethodHandler[Any, Any]:
    async def refuse(_requests: Any, context: Any) -> None:
        await context.abort(code, why)

    return grpc.stream_stream_rpc_method_handler(refuse)
