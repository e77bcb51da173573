"""``python -m raygym.runtimes.healthcheck DIRECTORY``: does the Remote in that directory answer?

It does what a client does first: the RFB handshake with the password, a first look at the
reward channel as an observer, a Hello in lock-step. Exit 0 if all of them were answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from raygym.config import VncOptions
from raygym.errors import RaygymError, RemoteProtocolError, RemoteUnreachable

DIRECTORY = "/run/raygym"
"""Where a container has its Remote's directory."""

_TIMEOUT_S = 4.0
_READ_BYTES = 1 << 16


async def check(directory: Path, *, timeout_s: float = _TIMEOUT_S) -> list[str]:
    """Shakes hands with every endpoint that the Remote names.

    Args:
        directory: Private directory of the Remote.
        timeout_s: Longest wait for all of them.

    Returns:
        What answered, in words.

    Raises:
        RemoteUnreachable: The Remote is not ready, or an endpoint did not answer in time.
        RaygymError: An endpoint refused, or broke its protocol.
    """
    try:
        ready = json.loads((directory / "ready.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RemoteUnreachable(f"{directory}: no Remote is ready there: {error}") from error
    wanted = [name for name in _CHECKS if ready.get(name)]
    if not wanted:
        raise RemoteUnreachable(f"{directory}: ready.json names no endpoint")
    said = []
    for name in wanted:
        try:
            async with asyncio.timeout(timeout_s):
                said.append(await _CHECKS[name](str(ready[name]), directory))
        except (OSError, EOFError, TimeoutError) as error:
            why = str(error) or f"no answer within {timeout_s:g} s"
            raise RemoteUnreachable(f"{name} at {ready[name]}: {why}") from error
    return said


async def _connect(endpoint: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if endpoint.startswith("unix:"):
        return await asyncio.open_unix_connection(endpoint.removeprefix("unix:"))
    host, _, port = endpoint.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def _check_vnc(endpoint: str, directory: Path) -> str:
    from raygym.wire.rfb_client import RfbClient

    client = RfbClient(password=_password(directory), options=VncOptions(encoding="raw"))
    client.auto_request = False
    reader, writer = await _connect(endpoint)
    try:
        while not client.is_connected:
            writer.write(client.data_to_send())
            data = await reader.read(_READ_BYTES)
            if not data:
                raise EOFError("the connection was closed during the handshake")
            client.receive_data(data)
        return f"vnc: {client.width}x{client.height}"
    finally:
        writer.close()


async def _check_rewarder(endpoint: str, directory: Path) -> str:
    from websockets.asyncio.client import connect, unix_connect

    from raygym.wire.rewarder import request_headers
    from raygym.wire.rewarder_client import Closed, Described, RewarderClient

    # An observer takes nobody's place.
    headers = request_headers(_password(directory) or "", is_observer=True)
    if endpoint.startswith("unix:"):
        path = endpoint.removeprefix("unix:")
        opening = unix_connect(path, uri="ws://remote/", additional_headers=headers)
    else:
        opening = connect(f"ws://{endpoint}/", additional_headers=headers, proxy=None)
    client = RewarderClient()
    async with opening as websocket:
        async for text in websocket:
            for event in client.receive(str(text), now_s=0.0):
                if isinstance(event, Described):
                    return f"rewarder: {event.env_state or 'waiting for a reset'}"
                if isinstance(event, Closed):
                    raise RemoteProtocolError(f"rewarder at {endpoint}: {event.message}")
    raise EOFError("the connection was closed before a describe came")


async def _check_lockstep(path: str, directory: Path) -> str:
    from raygym.wire.framing import FrameReader, frame
    from raygym.wire.proto import raygym_v1_pb2 as pb

    del directory  # the socket itself tells who may speak
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        hello = pb.Hello(version=1, client_id="healthcheck")
        writer.write(frame(pb.Request(id=1, hello=hello).SerializeToString()))
        frames = FrameReader()
        answers: list[bytes] = []
        while not answers:
            data = await reader.read(_READ_BYTES)
            if not data:
                raise EOFError("the connection was closed before a Welcome came")
            answers = frames.feed(data)
        answer = pb.Response.FromString(answers[0])
        if not answer.HasField("welcome"):
            raise RemoteProtocolError(f"lock-step at {path}: {answer.error.message}")
        return f"lock-step: {answer.welcome.runtime} version {answer.welcome.version}"
    finally:
        writer.close()


def _password(directory: Path) -> str | None:
    try:
        return (directory / "password").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


_CHECKS: dict[str, Callable[[str, Path], Awaitable[str]]] = {
    "vnc": _check_vnc,
    "rewarder": _check_rewarder,
    "rpc_socket": _check_lockstep,
}
"""By the key of ready.json that says where."""


def main(argv: Sequence[str] | None = None) -> int:
    """Checks once and prints what was seen; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m raygym.runtimes.healthcheck",
        description="Shakes hands with a remote. Exit codes: 0 all answered, 1 not all.",
    )
    parser.add_argument("directory", type=Path, nargs="?", default=Path(DIRECTORY))
    arguments = parser.parse_args(argv)
    try:
        print("; ".join(asyncio.run(check(arguments.directory))))  # noqa: T201
    except RaygymError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
