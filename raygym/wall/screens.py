"""Reaches the screens of remotes: on this node by their sockets, elsewhere through an actor."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raygym.core import Endpoint, Remote, Secret
from raygym.errors import RemoteUnreachable
from raygym.remote_env.state import remotes_directory, state_directory
from raygym.service.detached import get_or_make
from raygym.wall.tiles import ScreenPlace

CONNECT_TIMEOUT_S = 5.0
_CHUNK_BYTES = 1 << 18
_ANSWER_S = 20.0
"""Longest wait for the actor of a node; a read that finds nothing takes ``_QUIET_S`` of it."""
_QUIET_S = 5.0
_FORGOTTEN_S = 60.0
"""A line that nobody read from for so long is closed."""
_CALLS = 64


class Line(Protocol):
    """A connection to one screen."""

    password: Secret | None

    async def read(self) -> bytes:
        """Returns what came, waiting for some; empty once the line is closed."""
        ...

    async def write(self, data: bytes) -> None:
        """Sends bytes; waits while the far end takes none."""
        ...

    async def close(self) -> None:
        """Closes it; may be called twice."""
        ...


class SocketLine:
    """A connection from this process."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        password: Secret | None,
    ) -> None:
        self.password = password
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """See ``Line``."""
        try:
            return await self._reader.read(_CHUNK_BYTES)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        """See ``Line``."""
        with contextlib.suppress(OSError):
            self._writer.write(data)
            await self._writer.drain()

    async def close(self) -> None:
        """See ``Line``."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def dial_here(place: ScreenPlace) -> SocketLine:
    """Connects to a screen of this node.

    Raises:
        RemoteUnreachable: Nothing listens there.
    """
    remote = place.remote or await asyncio.to_thread(_found_here, place.remote_id)
    vnc = None if remote is None else remote.vnc
    if remote is None or vnc is None:
        raise RemoteUnreachable(
            f"{place.remote_id}: no screen of it was found on its node", remote_id=place.remote_id
        )
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await _connect(vnc)
    except (OSError, TimeoutError) as error:
        raise RemoteUnreachable(
            f"{place.remote_id}: its screen at {vnc} does not answer "
            f"({error or type(error).__name__}); the remote may have been replaced just now",
            remote_id=place.remote_id,
        ) from error
    return SocketLine(reader, writer, remote.password)


class ScreenActor:
    """Holds lines to the screens of its node for pages elsewhere; one detached actor a node."""

    def __init__(self) -> None:
        self._lines: dict[int, SocketLine] = {}
        self._read_s: dict[int, float] = {}
        self._numbers = itertools.count()

    async def dial(self, place: ScreenPlace) -> tuple[int, Secret | None]:
        """Opens a line; returns its number and the screen's password.

        Raises:
            RemoteUnreachable: Nothing listens there.
        """
        await self._close_forgotten()
        line = await dial_here(place)
        number = next(self._numbers)
        self._lines[number], self._read_s[number] = line, time.monotonic()
        return number, line.password

    async def read(self, number: int) -> bytes | None:
        """Returns what came; None if nothing did for seconds, empty once it is closed."""
        line = self._lines.get(number)
        if line is None:
            return b""
        self._read_s[number] = time.monotonic()
        try:
            async with asyncio.timeout(_QUIET_S):
                return await line.read()
        except TimeoutError:
            return None

    async def write(self, number: int, data: bytes) -> None:
        """Sends bytes; to a closed line, none."""
        if (line := self._lines.get(number)) is not None:
            await line.write(data)

    async def close(self, number: int) -> None:
        """Closes a line; may be called twice."""
        self._read_s.pop(number, None)
        if (line := self._lines.pop(number, None)) is not None:
            await line.close()

    async def _close_forgotten(self) -> None:
        now_s = time.monotonic()
        for number in [n for n, read_s in self._read_s.items() if now_s - read_s > _FORGOTTEN_S]:
            await self.close(number)


class ActorLine:
    """A connection through the actor of another node."""

    def __init__(self, actor: Any, number: int, password: Secret | None) -> None:
        self.password = password
        self._actor = actor
        self._number = number

    async def read(self) -> bytes:
        """See ``Line``."""
        data: bytes | None = None
        while data is None:
            try:
                data = await asyncio.wait_for(self._actor.read.remote(self._number), _ANSWER_S)
            except (RayError, TimeoutError):
                return b""
        return data

    async def write(self, data: bytes) -> None:
        """See ``Line``."""
        with contextlib.suppress(RayError, TimeoutError):
            await asyncio.wait_for(self._actor.write.remote(self._number, data), _ANSWER_S)

    async def close(self) -> None:
        """See ``Line``."""
        with contextlib.suppress(RayError, TimeoutError):
            await asyncio.wait_for(self._actor.close.remote(self._number), _ANSWER_S)


class RayScreens:
    """Reaches all screens of this Ray cluster."""

    async def dial(self, place: ScreenPlace) -> Line:
        """Connects to a screen.

        Raises:
            RemoteUnreachable: Its node is gone, or nothing listens there.
        """
        here = ray.get_runtime_context().get_node_id()
        if place.node in ("", here):
            return await dial_here(place)
        nodes: list[dict[str, Any]] = await asyncio.to_thread(ray.nodes)
        if not any(node["Alive"] and node["NodeID"] == place.node for node in nodes):
            # An actor cannot be placed there any more; Ray would go on trying.
            raise RemoteUnreachable(
                f"{place.remote_id}: its node {place.node} is no longer in the cluster",
                remote_id=place.remote_id,
            )
        try:
            actor = await asyncio.to_thread(screens_of, place.node)
            number, password = await asyncio.wait_for(actor.dial.remote(place), _ANSWER_S)
        except RemoteUnreachable:
            raise
        except (RayError, TimeoutError, ValueError) as error:
            raise RemoteUnreachable(
                f"{place.remote_id}: node {place.node} does not let anybody look: "
                f"{str(error).strip().splitlines()[-1:]}",
                remote_id=place.remote_id,
            ) from error
        return ActorLine(actor, number, password)


def screens_of(node: str) -> Any:
    """Returns the handle of a node's ScreenActor, which is made where there is none."""
    place = NodeAffinitySchedulingStrategy(node, soft=False)
    return get_or_make(
        ScreenActor, f"raygym-screens-{node}", threads=_CALLS, scheduling_strategy=place
    )


async def _connect(vnc: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if vnc.path is not None:
        return await asyncio.open_unix_connection(vnc.path)
    return await asyncio.open_connection(vnc.host, vnc.port)


def _found_here(remote_id: str) -> Remote | None:
    """Finds a remote in a container of this node by its name."""
    if not remote_id or Path(remote_id).name != remote_id:
        return None
    directory = remotes_directory(state_directory()) / remote_id
    socket, password = directory / "vnc.sock", directory / "password"
    if not socket.exists():
        return None
    return Remote(
        id=remote_id,
        runtime="",
        vnc=Endpoint(path=str(socket)),
        rewarder=None,
        password=Secret(password.read_text().strip()) if password.is_file() else None,
    )
