"""One live VNC conversation with one Remote: a socket, a reader thread and the newest screen."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from raygym.catalog import Region
from raygym.config import VncOptions
from raygym.core import Endpoint, Frame, Secret, UInt8Array
from raygym.errors import FrameTimeout, RaygymError, RemoteUnreachable, SessionLost
from raygym.remote_env.controls import Input, KeyInput
from raygym.remote_env.sockets import connect
from raygym.wire.rfb_client import RfbClient, RfbEvent, ScreenUpdated

_RECEIVE_BYTES = 1 << 18
_SEND_TIMEOUT_S = 5
_JOIN_S = 5.0


@dataclass(frozen=True)
class Snapshot:
    """The watched regions as one screen update left them.

    The pictures belong to the session; the next ``take`` overwrites them.
    """

    pictures: tuple[UInt8Array, ...]
    """One per region, uint8[height, width, 4]: R, G, B and a byte of no meaning."""
    arrived_s: float
    """When the last byte of the update came, in seconds of ``time.monotonic``."""
    number: int
    """Counts the screen updates of the session, from 1."""


@dataclass(frozen=True)
class VncStats:
    """What a session has received since it began."""

    updates: int = 0
    """Screen updates."""
    bytes: int = 0
    """Their bytes on the wire."""
    pixels: int = 0
    """Their pixels."""
    decode_s: float = 0.0
    """Processor time that decoding and copying them took, in seconds."""


class VncSession:
    """One live VNC conversation with one Remote.

    The socket and the reader thread belong to the session; the Remote does not. Safe to
    use from several threads, but only one may ``take``.

    Args:
        endpoint: Where the Remote speaks RFB.
        password: Its password; None where none is asked.
        options: Encodings and quality; None takes raw on a unix socket (it costs least),
            else Universe's default.
        connect_timeout_s: Longest wait for the handshake; until then, refused connections
            are tried again.

    Raises:
        RemoteUnreachable: Nothing answered in time, or the socket closed on us.
        HandshakeRefused: An answer came, but no version or password was agreed.
        RemoteProtocolError: What answered does not speak RFB.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        password: Secret | None,
        options: VncOptions | None = None,
        connect_timeout_s: float = 10.0,
    ) -> None:
        self._endpoint = endpoint
        if options is None:
            options = VncOptions(encoding="raw") if endpoint.path is not None else VncOptions()
        self._client = RfbClient(
            password=None if password is None else password.reveal(), options=options
        )
        self._changed = threading.Condition()
        self._send_lock = threading.Lock()
        self._lost: RaygymError | None = None
        self._is_closing = False
        self._stats = VncStats()
        self._number = 0
        self._arrived_s = 0.0
        self._regions: tuple[Region, ...] | None = None
        self._buffers: list[tuple[UInt8Array, ...]] = []
        self._newest: Snapshot | None = None
        self._held: Snapshot | None = None
        deadline_s = time.monotonic() + connect_timeout_s
        self._socket = connect(endpoint, deadline_s)
        try:
            self._shake_hands(deadline_s)
        except BaseException:
            self._socket.close()
            raise
        self._reader = threading.Thread(
            target=self._read_forever, name=f"vnc {endpoint}", daemon=True
        )
        self._reader.start()

    @property
    def lost(self) -> RaygymError | None:
        """Why the conversation ended, or None while it lasts."""
        return self._lost

    @property
    def stats(self) -> VncStats:
        """What was received so far."""
        return self._stats

    @property
    def screen_px(self) -> tuple[int, int]:
        """Width and height of the screen."""
        return self._client.width, self._client.height

    @property
    def last_arrival_s(self) -> float:
        """When the newest update came, in seconds of ``time.monotonic``; 0.0 before one."""
        return self._arrived_s

    def watch(self, *regions: Region) -> None:
        """Chooses what snapshots hold; before the first call it is the whole screen.

        The newest snapshot is taken anew at the next screen update.

        Raises:
            SessionLost: A region does not lie on the screen.
        """
        for region in regions:
            self._check_fits(region)
        with self._changed:
            self._regions = regions
            self._buffers = []
            self._newest = self._held = None
            if self._client.has_picture and not self._client.is_updating:
                self._snap()

    def send(self, inputs: Iterable[Input]) -> None:
        """Sends key and pointer events, in order.

        Raises:
            SessionLost: The conversation has ended.
        """
        with self._changed:
            self._raise_if_lost()
            for item in inputs:
                if isinstance(item, KeyInput):
                    self._client.key_event(item.keysym, item.is_down)
                else:
                    self._client.pointer_event(item.x, item.y, item.buttonmask)
        try:
            self._flush()
        except OSError as error:
            self._fail(error)
            self._raise_if_lost()

    def request_whole_screen(self) -> None:
        """Asks for a full update, which comes even if nothing changed."""
        with self._changed:
            self._raise_if_lost()
            self._client.request_update(is_incremental=False)
        try:
            self._flush()
        except OSError as error:
            self._fail(error)
            self._raise_if_lost()

    def wait_frame(self, *, newer_than: int = 0, not_before_s: float = 0.0, until_s: float) -> bool:
        """Waits for a screen update.

        Args:
            newer_than: Number of the last snapshot seen.
            not_before_s: Earliest time of arrival that counts, of ``time.monotonic``.
            until_s: When to stop waiting, of ``time.monotonic``.

        Returns:
            Whether such an update is there.

        Raises:
            SessionLost: The conversation has ended.
        """

        def is_there() -> bool:
            newest = self._newest
            return newest is not None and (
                newest.number > newer_than and newest.arrived_s >= not_before_s
            )

        with self._changed:
            while not is_there():
                self._raise_if_lost()
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(left_s)
            return True

    def take(self) -> Snapshot | None:
        """Returns the newest snapshot without waiting, or None before the first.

        It stays as it is until the next ``take``.
        """
        with self._changed:
            if self._newest is not self._held:
                if self._held is not None:
                    self._buffers.append(self._held.pictures)
                self._held = self._newest
            return self._held

    def read_frame(self, *, newer_than: int = 0, timeout_s: float = 5.0) -> Frame:
        """Returns the newest frame of the first watched region, waiting if need be.

        The pixels are a view that the next call overwrites; copy what must last.

        Args:
            newer_than: Number of the last frame seen; 0 accepts any.
            timeout_s: Longest wait, in seconds.

        Raises:
            FrameTimeout: The screen did not change within ``timeout_s``.
            SessionLost: The socket closed; the Remote may be well.
        """
        if not self.wait_frame(newer_than=newer_than, until_s=time.monotonic() + timeout_s):
            raise FrameTimeout(
                f"{self._endpoint}: no screen update after number {newer_than} within "
                f"{timeout_s:g} s (the newest is number {self._number})"
            )
        snapshot = self.take()
        assert snapshot is not None  # noqa: S101  wait_frame saw one
        pixels = snapshot.pictures[0][:, :, :3]
        pixels.flags.writeable = False
        return Frame(pixels, snapshot.arrived_s, snapshot.number)

    def close(self) -> None:
        """Closes the socket and ends the reader. May be called twice."""
        self._is_closing = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(_JOIN_S)
        self._socket.close()

    def _shake_hands(self, deadline_s: float) -> None:
        while not self._client.is_connected:
            self._send_rest(self._client.data_to_send())
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise RemoteUnreachable(
                    f"{self._endpoint}: the RFB handshake did not end in time; is it a VNC server?"
                )
            self._socket.settimeout(left_s)
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except TimeoutError:
                continue
            except OSError as error:
                raise RemoteUnreachable(f"{self._endpoint}: {error}") from error
            if not data:
                raise RemoteUnreachable(
                    f"{self._endpoint}: the connection was closed during the RFB handshake"
                )
            self._note(self._client.iter_events(data))
        self._socket.settimeout(None)
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_TIMEOUT_S, 0)
        )
        self._send_rest(self._client.data_to_send())

    def _read_forever(self) -> None:
        view = memoryview(bytearray(_RECEIVE_BYTES))
        try:
            while count := self._socket.recv_into(view):
                with self._changed:
                    began_s = time.thread_time()
                    self._note(self._client.iter_events(view[:count]))
                    took_s = time.thread_time() - began_s
                    self._stats = replace(self._stats, decode_s=self._stats.decode_s + took_s)
                self._flush()
            self._fail(None)
        except (OSError, RaygymError) as error:
            self._fail(error)

    def _note(self, events: Iterable[RfbEvent]) -> None:
        """Takes events as they are decoded. Called with the lock held."""
        for event in events:
            if not isinstance(event, ScreenUpdated):
                continue
            before = self._stats
            self._stats = VncStats(
                updates=before.updates + 1,
                bytes=before.bytes + event.bytes,
                pixels=before.pixels + event.pixels,
                decode_s=before.decode_s,
            )
            if self._client.has_picture:
                self._number += 1
                self._arrived_s = time.monotonic()
                self._snap()

    def _snap(self) -> None:
        """Copies the watched regions. Called with the lock held."""
        width, height = self.screen_px
        regions = self._regions or (Region(0, 0, width, height),)
        for region in regions:
            self._check_fits(region)
        buffers: tuple[UInt8Array, ...] | None = None
        if self._newest is not None and self._newest is not self._held:
            buffers = self._newest.pictures
        elif self._buffers:
            buffers = self._buffers.pop()
        pictures = []
        for index, r in enumerate(regions):
            source = self._client.framebuffer[r.y : r.y + r.height, r.x : r.x + r.width]
            if buffers is not None and buffers[index].shape == source.shape:
                np.copyto(buffers[index], source)
                pictures.append(buffers[index])
            else:
                pictures.append(source.copy())
        self._newest = Snapshot(tuple(pictures), self._arrived_s, self._number)
        self._changed.notify_all()

    def _check_fits(self, region: Region) -> None:
        width, height = self.screen_px
        if (
            region.x < 0
            or region.y < 0
            or region.x + region.width > width
            or region.y + region.height > height
        ):
            raise SessionLost(
                f"{self._endpoint}: the screen is {width}x{height}, too small for "
                f"{region.width}x{region.height} at ({region.x}, {region.y}); "
                "is this the right remote?"
            )

    def _flush(self) -> None:
        with self._send_lock:
            with self._changed:
                data = self._client.data_to_send()
            self._send_rest(data)

    def _send_rest(self, data: bytes) -> None:
        if data:
            self._socket.sendall(data)

    def _fail(self, error: Exception | None) -> None:
        with self._changed:
            if self._lost is None:
                if self._is_closing:
                    reason = "closed here"
                else:
                    reason = str(error) if error else "the remote closed the connection"
                self._lost = SessionLost(f"VNC to {self._endpoint} ended: {reason}")
                self._lost.__cause__ = error
            self._changed.notify_all()

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise SessionLost(self._lost.message) from self._lost
