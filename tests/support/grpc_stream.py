"""One gRPC stream of bytes both ways, with a deadline on each answer."""

from __future__ import annotations

import queue
import threading

import grpc

from raygym.errors import SessionLost
from raygym.remote_env.rpc.dm_session import METHOD


class GrpcStream:
    """Asks over plaintext.

    Args:
        address: Host and port.
    """

    def __init__(self, address: str) -> None:
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if address.startswith("local:"):
            address = address.removeprefix("local:")
            credentials = grpc.local_channel_credentials()
            self._channel = grpc.secure_channel(address, credentials, options)
        else:
            self._channel = grpc.insecure_channel(address, options)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bytes | grpc.RpcError] = queue.SimpleQueue()
        process = self._channel.stream_stream(METHOD)
        self._call = process(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read, name="answers of a stream")
        self._reader.start()

    def ask(self, request: bytes, *, timeout_s: float) -> bytes:
        """Returns the answer; raises SessionLost."""
        self._requests.put(request)
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise SessionLost(f"no answer within {timeout_s} s") from None
        if isinstance(answer, grpc.RpcError):
            raise SessionLost(f"the stream ended: {answer}") from answer
        return answer

    def close(self) -> None:
        """Ends the stream."""
        self._requests.put(None)
        self._call.cancel()
        self._channel.close()
        self._reader.join(10)

    def _read(self) -> None:
        try:
            for answer in self._call:
                self._answers.put(answer)
        except grpc.RpcError as error:
            self._answers.put(error)
