"""Remotes that an allocator lends over HTTP: a raygym gateway, by Universe's allocator API."""

from __future__ import annotations

import atexit
import logging
import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raygym.core import Endpoint, Remote, Secret
from raygym.errors import RaygymError, RemoteFailedToStart, RemoteProtocolError
from raygym.machine import is_loopback
from raygym.remote_env.allocator_address import AllocatorAddress
from raygym.remote_env.allocator_client import AllocationRefused, AllocatorClient
from raygym.remote_env.plain_backend import PlainBackend
from raygym.remote_env.side_by_side import side_by_side

log = logging.getLogger(__name__)

RUNTIMES_BY_UNIVERSE = {"world-of-bits": "wob"}
"""Universe's names of Runtimes that are called otherwise here."""

_UNIVERSE_NAMES = {ours: theirs for theirs, ours in RUNTIMES_BY_UNIVERSE.items()}
_ALLOCATED = "allocated"
_MAX_REALLOCATIONS = 5
_FIRST_POLL_S = 0.1
_LAST_POLL_S = 5.0
_DELETE_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 30.0
_DEFAULT_TTL_S = 60.0
_HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")


@dataclass
class _Allocation:
    """One Remote that is lent to a Client."""

    client: str
    runtime: str
    handle: str
    remote: Remote | None = None


class AllocatorBackend(PlainBackend):
    """Asks an allocator for Remotes, tells it while they are wanted, and gives them back.

    A thread refreshes the allocations three times in the time that they live without. When
    this process is killed, the allocator takes them back by itself.

    Args:
        address: Where the allocator listens.
        env_id: What is played; a gateway may choose the Remote by it.
        mode: Who owns time there. Universe's allocator knows ``realtime`` only.
        start_timeout_s: Longest wait for a Remote, that in the allocator's queue included.

    Raises:
        ConfigError: A file of TLS makes no sense.
    """

    def __init__(
        self,
        address: AllocatorAddress,
        *,
        env_id: str | None = None,
        mode: str = "realtime",
        start_timeout_s: float = 60.0,
    ) -> None:
        self._address = address
        self._params = _params(address, env_id, mode)
        self._is_lockstep = mode == "lockstep"
        self._start_timeout_s = start_timeout_s
        self._allocations: dict[str, _Allocation] = {}
        self._taken: set[tuple[str, str, str]] = set()
        self._ttl_s = _DEFAULT_TTL_S
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._client = AllocatorClient(address, stopped=self._stopped)
        self._refresher: threading.Thread | None = None
        self._owner_pid = os.getpid()
        if address.token is not None and not (address.is_tls or is_loopback(address.host)):
            log.warning("allocator.plaintext address=%s: use https, or a tunnel", address.id)
        atexit.register(self.close)

    def start(self, runtime: str, *, client_id: str) -> Remote:
        """Asks for a Remote and waits for it.

        Args:
            runtime: Name of its Runtime.
            client_id: On whose behalf; the same name gets the Remote that it has still.

        Raises:
            RemoteFailedToStart: The allocator refused, or lent none in time.
        """
        handle = self._take_handle(client_id, runtime)
        allocation = _Allocation(client_id, runtime, handle)
        deadline_s = time.monotonic() + self._start_timeout_s
        try:
            name, entry = self._obtain(allocation, deadline_s)
        except BaseException as error:
            self._free_handle(allocation)
            if isinstance(error, RaygymError) and not isinstance(error, RemoteFailedToStart):
                raise RemoteFailedToStart(f"{client_id} ({runtime}): {error}") from error
            raise
        try:
            allocation.remote = _remote(entry, runtime, self._address, self._is_lockstep)
        except BaseException:
            self._give_back(allocation, name, is_whole=True)
            raise
        with self._lock:
            is_late = self._stopped.is_set()
            if not is_late:
                self._allocations[name] = allocation
                self._start_refreshing()
        if is_late:
            self._give_back(allocation, name, is_whole=True)
            raise RemoteFailedToStart(f"{name} ({runtime}): its backend is closed")
        log.info("remote.lent remote_id=%s runtime=%s by=%s", name, runtime, self._address.id)
        return allocation.remote

    def list(self) -> Sequence[Remote]:
        """Returns the Remotes that are lent now."""
        with self._lock:
            allocations = list(self._allocations.values())
        return [lent.remote for lent in allocations if lent.remote is not None]

    def remove(self, remote_id: str) -> None:
        """Gives a Remote back to be ended; unknown ids are ignored."""
        self._end(remote_id, is_whole=False)

    def release(self, remote_id: str) -> None:
        """Gives a Remote back whole: the allocator may keep it for the Client."""
        self._end(remote_id, is_whole=True)

    def holds(self, remote_id: str) -> bool:
        """Returns whether it was lent and, as far as the allocator last said, is still."""
        with self._lock:
            return remote_id in self._allocations

    def refresh(self) -> None:
        """Tells the allocator what is still wanted, and drops what it has no longer.

        A thread does so three times in the time that an allocation lives without.
        """
        names: dict[str, list[str]] = defaultdict(list)
        with self._lock:
            for name, lent in self._allocations.items():
                names[lent.client].append(name)
        for client, asked in names.items():
            try:
                answer = self._client.refresh(client, asked, timeout_s=self._ttl_s / 3)
            except AllocationRefused as error:
                log.warning("allocations.refused client_id=%s cause=%s", client, error)
                answer = {"env_n": []}
            except RaygymError as error:
                log.warning("allocations.not_refreshed client_id=%s cause=%s", client, error)
                continue
            there = {entry.get("name") for entry in _entries(answer)}
            for name in asked:
                if name not in there:
                    self._forget(name)

    def close(self) -> None:
        """Gives every Remote back whole. May be called twice.

        Also runs when the interpreter ends. What takes too long expires by itself.
        """
        if os.getpid() != self._owner_pid:
            return
        atexit.unregister(self.close)
        with self._lock:
            self._stopped.set()
            names = list(self._allocations)
            refresher, self._refresher = self._refresher, None
        side_by_side(self.release, names, time.monotonic() + _CLOSE_TIMEOUT_S)
        if refresher is not None and refresher is not threading.current_thread():
            refresher.join(_DELETE_TIMEOUT_S)

    def _obtain(self, lent: _Allocation, deadline_s: float) -> tuple[str, Mapping[str, Any]]:
        for _ in range(_MAX_REALLOCATIONS):
            name, entry = self._ask(lent, deadline_s)
            try:
                found = self._await_allocated(lent, name, entry, deadline_s)
            except BaseException:
                self._delete(lent.client, name, is_whole=False)
                raise
            if found is not None:
                return name, found
            log.info("remote.gone remote_id=%s by=%s", name, self._address.id)
        raise RemoteFailedToStart(
            f"{lent.client} ({lent.runtime}): {self._address.id} lost {_MAX_REALLOCATIONS} "
            "remotes, one after the other, before they were ready; its log says why"
        )

    def _ask(self, lent: _Allocation, deadline_s: float) -> tuple[str, Mapping[str, Any]]:
        wanted = {
            "client": lent.client,
            "runtime": _UNIVERSE_NAMES.get(lent.runtime, lent.runtime),
            "params": self._params,
            "handles": [lent.handle],
            "initial": not self._allocations,
            "placement": self._address.placement,
        }
        answer = self._client.create(wanted, timeout_s=max(0.1, deadline_s - time.monotonic()))
        entries = _entries(answer)
        if len(entries) != 1 or not isinstance(entries[0].get("name"), str):
            raise RemoteProtocolError(
                f"{self._address.id}: asked for one remote, got {len(entries)} entries"
            )
        self._note_ttl(answer)
        return entries[0]["name"], entries[0]

    def _await_allocated(
        self, lent: _Allocation, name: str, entry: Mapping[str, Any], deadline_s: float
    ) -> Mapping[str, Any] | None:
        """Polls until an allocation is ready; None where the allocator has it no longer."""
        poll_s = _FIRST_POLL_S
        while entry.get("status") != _ALLOCATED:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                said = entry.get("detail") or entry.get("status")
                raise RemoteFailedToStart(
                    f"{lent.client} ({lent.runtime}): {self._address.id} lent no remote within "
                    f"{self._start_timeout_s:g} s; it says: {said}"
                )
            if self._stopped.wait(min(poll_s, left_s)):
                raise RemoteFailedToStart(f"{lent.client} ({lent.runtime}): its backend is closed")
            poll_s = min(1.5 * poll_s, _LAST_POLL_S, self._ttl_s / 3)
            left_s = max(0.1, deadline_s - time.monotonic())
            answer = self._client.refresh(lent.client, [name], timeout_s=left_s)
            found = [e for e in _entries(answer) if e.get("name") == name]
            if not found:
                return None
            entry = found[0]
        return entry

    def _note_ttl(self, answer: Mapping[str, Any]) -> None:
        info = answer.get("info")
        ttl_s = info.get("ttl_s") if isinstance(info, dict) else None
        if isinstance(ttl_s, int | float) and 0 < ttl_s < 86_400:
            self._ttl_s = float(ttl_s)

    def _take_handle(self, client: str, runtime: str) -> str:
        with self._lock:
            if self._stopped.is_set():
                raise RemoteFailedToStart(f"{client} ({runtime}): its backend is closed")
            number = 0
            while (client, runtime, str(number)) in self._taken:
                number += 1
            self._taken.add((client, runtime, str(number)))
        return str(number)

    def _free_handle(self, lent: _Allocation) -> None:
        with self._lock:
            self._taken.discard((lent.client, lent.runtime, lent.handle))

    def _forget(self, name: str) -> _Allocation | None:
        with self._lock:
            lent = self._allocations.pop(name, None)
        if lent is not None:
            self._free_handle(lent)
        return lent

    def _end(self, name: str, *, is_whole: bool) -> None:
        with self._lock:
            lent = self._allocations.pop(name, None)
        if lent is not None:
            self._give_back(lent, name, is_whole=is_whole)

    def _give_back(self, lent: _Allocation, name: str, *, is_whole: bool) -> None:
        """Gives back first, so that the handle is not lent anew with the Remote that goes."""
        self._delete(lent.client, name, is_whole=is_whole)
        self._free_handle(lent)

    def _delete(self, client: str, name: str, *, is_whole: bool) -> None:
        try:
            self._client.delete(client, [name], is_whole=is_whole, timeout_s=_DELETE_TIMEOUT_S)
        except RaygymError as error:
            log.warning("remote.not_given_back remote_id=%s cause=%s", name, error)

    def _start_refreshing(self) -> None:
        if self._refresher is None:
            self._refresher = threading.Thread(
                target=self._keep_refreshing, name="raygym-allocations", daemon=True
            )
            self._refresher.start()

    def _keep_refreshing(self) -> None:
        while not self._stopped.wait(self._ttl_s / 3):
            try:
                self.refresh()
            except Exception as error:  # noqa: BLE001  the next round may go well
                log.warning("allocations.not_refreshed cause=%r", error)


def _params(address: AllocatorAddress, env_id: str | None, mode: str) -> dict[str, Any]:
    params: dict[str, Any] = {"mode": mode}
    if env_id is not None:
        params["env_id"] = env_id
    if address.cpu is not None:
        params["cpu"] = address.cpu
    return params


def _entries(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries = answer.get("env_n")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RemoteProtocolError(f"an allocator's answer has no env_n: {str(answer)[:200]}")
    return entries


def _remote(
    entry: Mapping[str, Any], runtime: str, address: AllocatorAddress, is_lockstep: bool
) -> Remote:
    names = ("rpc",) if is_lockstep else ("vnc", "rewarder")
    passwords = {entry.get(f"{name}_password") for name in names}
    if len(passwords) != 1:
        raise RemoteFailedToStart(
            f"{entry['name']} ({runtime}): {address.id} gave screen and rewards two passwords"
        )
    password = passwords.pop()
    endpoints = {name: _endpoint(entry, name, address) for name in names}
    return Remote(
        id=entry["name"],
        runtime=runtime,
        vnc=endpoints.get("vnc"),
        rewarder=endpoints.get("rewarder"),
        rpc=endpoints.get("rpc"),
        password=Secret(password) if isinstance(password, str) and password else None,
    )


def _endpoint(entry: Mapping[str, Any], name: str, address: AllocatorAddress) -> Endpoint:
    text = entry.get(f"{name}_address")
    match = _HOST_AND_PORT.fullmatch(text) if isinstance(text, str) else None
    if match is None or not 0 < int(match["port"]) <= 65535:
        raise RemoteFailedToStart(
            f"{entry['name']}: {address.id} gave no {name}_address that can be dialled, but "
            f"{text!r}" + ("; does it know lock-step?" if name == "rpc" else "")
        )
    return Endpoint(host=match["v6"] or match["host"], port=int(match["port"]))
