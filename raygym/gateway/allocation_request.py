"""What a client of Universe's allocator API asks for, read from its JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raygym.errors import ConfigError
from raygym.gateway.leasing import MAX_CLIENT_ID_LENGTH
from raygym.gateway.offers import Mode, Offers
from raygym.gateway.pool import Wanted
from raygym.remote_env.allocator_backend import RUNTIMES_BY_UNIVERSE

MAX_HANDLES = 1000
"""Most allocations of one request."""

_HANDLE = re.compile(r"[0-9]{1,9}")
_MAX_CLIENT_LENGTH = MAX_CLIENT_ID_LENGTH - len("#999999999")


@dataclass(frozen=True, kw_only=True)
class AllocationRequest:
    """The body of ``POST /v1/allocations``."""

    client: str
    """Steady name of the client."""
    any_wanted: Wanted
    """What is leased, for none of the handles yet."""
    handles: tuple[str, ...]
    """The client's numbers for the allocations."""

    def wanted(self, handle: str) -> Wanted:
        """Returns what is leased for a handle: each has a lease of its own."""
        name = self.client if handle == "0" else f"{self.client}#{handle}"
        return replace(self.any_wanted, client_id=name)


def parse_request(body: object, offers: Offers) -> AllocationRequest:
    """Reads a request; what it does not know, such as ``placement``, is left alone.

    Args:
        body: JSON.
        offers: What clients may ask for.

    Raises:
        ConfigError: It makes no sense, or no such runtime or environment is offered.
    """
    if not isinstance(body, dict):
        raise ConfigError(f"expected a JSON object, got {type(body).__name__}")
    return AllocationRequest(
        client=check_client(body.get("client")),
        any_wanted=_wanted(body, offers),
        handles=_handles(body.get("handles")),
    )


def check_client(client: object) -> str:
    """Returns a client's name.

    Raises:
        ConfigError: It is none.
    """
    if isinstance(client, str) and client.isprintable() and 0 < len(client) <= _MAX_CLIENT_LENGTH:
        return client
    raise ConfigError(
        f"client: expected a name of 1 to {_MAX_CLIENT_LENGTH} printable characters, got "
        f"{str(client)[:40]!r}"
    )


def check_names(body: object) -> Sequence[str] | None:
    """Returns the ``names`` of a refresh; None where all are meant.

    Raises:
        ConfigError: They are no list of texts.
    """
    names = body.get("names") if isinstance(body, dict) else None
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError("names: expected a list of texts")
    return names


def _wanted(body: Mapping[str, Any], offers: Offers) -> Wanted:
    runtime = body.get("runtime")
    if not isinstance(runtime, str):
        raise ConfigError(f"runtime: expected the name of a runtime, got {str(runtime)[:40]!r}")
    runtime = RUNTIMES_BY_UNIVERSE.get(runtime, runtime)
    params = body.get("params") or {}
    if not isinstance(params, dict):
        raise ConfigError(f"params: expected an object, got {type(params).__name__}")
    env_id = params.get("env_id")
    mode = _mode(params)
    if env_id is None and mode == "realtime":
        return offers.find_any(runtime, mode)
    if not isinstance(env_id, str) or not env_id:
        raise ConfigError(f"params.env_id: expected an id, got {str(env_id)[:40]!r}")
    wanted = offers.find(env_id, mode)
    if wanted.runtime != runtime:
        raise ConfigError(f"runtime: {env_id} is of {wanted.runtime}, not of {runtime}")
    return wanted


def _mode(params: Mapping[str, Any]) -> Mode:
    """Returns who owns time; Universe's clients know real time only, and say nothing."""
    mode = params.get("mode", "realtime")
    if mode not in ("lockstep", "realtime"):
        raise ConfigError(f"params.mode: expected lockstep or realtime, got {str(mode)[:40]!r}")
    return "lockstep" if mode == "lockstep" else "realtime"


def _handles(handles: object) -> tuple[str, ...]:
    is_list = isinstance(handles, list) and 0 < len(handles) <= MAX_HANDLES
    if not isinstance(handles, list) or not is_list:
        raise ConfigError(f"handles: expected a list of 1 to {MAX_HANDLES} numbers")
    for handle in handles:
        if not isinstance(handle, str) or not _HANDLE.fullmatch(handle):
            raise ConfigError(f"handles: expected numbers as texts, got {str(handle)[:40]!r}")
    if len(set(handles)) != len(handles):
        raise ConfigError("handles: the same number stands there twice")
    return tuple(handles)
