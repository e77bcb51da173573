"""Makes the slots of an actor from an env id, and gives each actor its share of the addresses."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray

from raygym.core import Backend, Remote
from raygym.errors import ConfigError
from raygym.remote_env.address import REMOTES_VARIABLE, parse_remotes
from raygym.remote_env.allocator_address import AllocatorAddress
from raygym.vector.slots import Slots
from raygym.vector.supervision import Supervision

if TYPE_CHECKING:
    from raygym.environments.settings import Settings


@dataclass(frozen=True, kw_only=True)
class SlotsOfId:
    """Makes slots of an env id; small, and it pickles."""

    env_id: str
    frame_stack: int = 1
    supervision: Supervision | None = None
    make_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """More for ``raygym.environments.slots.make_slots``."""
    addresses: tuple[str, ...] = ()
    """One for each slot of the service; empty where Remotes are started."""
    query: str = field(default="", repr=False)
    """What stands after them, or after the address of an allocator: ``?password=...``."""
    client_id: str = ""
    """On whose behalf; slots append their numbers."""

    def __call__(self, first_slot: int, num_slots: int) -> Slots:
        """Makes the slots of an actor.

        Args:
            first_slot: Number of the first.
            num_slots: How many.

        Raises:
            ConfigError: A setting makes no sense, or there are fewer addresses than slots.
            RaygymError: They cannot be made now.
        """
        # Here, so that a service of other slots costs a driver nothing.
        from raygym.environments.slots import make_slots

        arguments = dict(self.make_kwargs)
        if self.addresses:
            mine = self.addresses[first_slot : first_slot + num_slots]
            if len(mine) < num_slots:
                raise ConfigError(
                    f"remotes: {first_slot + num_slots} slots need as many addresses, got "
                    f"{len(self.addresses)}"
                )
            arguments["remotes"] = ",".join(mine) + self.query
        elif self.query:
            arguments["remotes"] += self.query
        arguments["client_id"] = self.client_id
        backend = self._backend(arguments)
        if backend is not None:
            arguments["backend"] = backend
        try:
            return make_slots(
                self.env_id,
                num_slots,
                first_slot=first_slot,
                frame_stack=self.frame_stack,
                supervision=self.supervision,
                **arguments,
            )
        except BaseException:
            if backend is not None:
                backend.close()
            raise

    def _backend(self, arguments: Mapping[str, Any]) -> Backend | None:
        """Returns containers whose leases the cluster's registry keeps, where it is to be docker.

        Closed as the process ends.
        """
        from raygym.environments.backends import resolve_backend
        from raygym.environments.needs import RemoteNeeds

        asked: Any = arguments.get("backend")
        is_named = asked is None or isinstance(asked, str)
        if not ray.is_initialized() or not is_named:
            return None
        settings = _settings(self.env_id, arguments)
        if settings.is_local or settings.addresses or settings.allocator:
            return None
        choice = resolve_backend(asked, settings.runtime, has_addresses=False)
        if choice.name != "docker":
            return None
        from raygym.service.leased import leased_backend_on_ray

        mode = settings.owner_of_time()
        needs = RemoteNeeds(runtime=settings.runtime, env_id=self.env_id, mode=mode)
        return leased_backend_on_ray(variant=needs.variant, env_id=self.env_id)


def slots_of_id(
    env_id: str,
    *,
    frame_stack: int,
    supervision: Supervision | None,
    make_kwargs: Mapping[str, Any],
) -> SlotsOfId:
    """Returns what makes the slots of an env id.

    Raises:
        ConfigError: ``remotes`` among the arguments is malformed.
    """
    arguments = dict(make_kwargs)
    client_id = arguments.pop("client_id", None) or f"client-{secrets.token_hex(3)}"
    addresses: tuple[str, ...] = ()
    query = ""
    text = arguments.get("remotes") or os.environ.get(REMOTES_VARIABLE)
    if isinstance(text, str) and not _settings(env_id, arguments).is_local:
        parsed = parse_remotes(text)
        if isinstance(parsed, AllocatorAddress):
            arguments["remotes"], query = parsed.without_token, parsed.token_query
        elif isinstance(parsed, list):
            addresses = tuple(_address(remote) for remote in parsed)
            query = text[text.index("?") :] if "?" in text else ""
            arguments.pop("remotes", None)
    return SlotsOfId(
        env_id=env_id,
        frame_stack=frame_stack,
        supervision=supervision,
        make_kwargs=arguments,
        addresses=addresses,
        query=query,
        client_id=client_id,
    )


def is_realtime(slots: SlotsOfId) -> bool:
    """Returns whether the environment, and not the agent, owns time.

    Raises:
        ConfigError: The environment is unknown, or the settings do not go together.
    """
    arguments = dict(slots.make_kwargs)
    if slots.addresses:
        arguments["remotes"] = slots.addresses[0]
    settings = _settings(slots.env_id, arguments)
    return not settings.is_local and settings.owner_of_time() == "realtime"


def _settings(env_id: str, arguments: Mapping[str, Any]) -> Settings:
    from raygym.environments.settings import Settings

    known = Settings.__dataclass_fields__
    return Settings(env_id=env_id, **{n: v for n, v in arguments.items() if n in known})


def _address(remote: Remote) -> str:
    """Returns the address of a remote without its password, with its scheme."""
    has_scheme = remote.rpc is not None or remote.id.startswith("unix:")
    return remote.id if has_scheme else f"vnc://{remote.id}"
