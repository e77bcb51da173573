"""What ``make`` and ``make_vec`` are asked for, and whether it goes together."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypedDict

from raygym import gym_ids
from raygym.catalog import EnvSpec, load_catalog
from raygym.config import DockerConfig, ObservationConfig, TlsFiles, VncOptions, check_range
from raygym.core import Backend, Remote
from raygym.environments.backends import VARIABLE, BackendName
from raygym.environments.local import LocalConfig
from raygym.environments.needs import RemoteNeeds
from raygym.errors import ConfigError
from raygym.gym_ids import PREFIX as GYM_CORE_PREFIX
from raygym.remote_env.address import RemoteCount, parse_remotes
from raygym.remote_env.allocator_address import AllocatorAddress
from raygym.remote_env.slot_config import SlotConfig

Mode = Literal["lockstep", "realtime"]
"""Who owns time: the agent, or the environment."""


class MakeArguments(TypedDict, total=False):
    """The keywords of ``make``, which says what each means."""

    remotes: int | str | None
    client_id: str | None
    backend: BackendName | Backend | None
    docker: DockerConfig | None
    mode: Mode | None
    actions: Literal["discrete", "events"]
    observation: ObservationConfig | None
    fps: float | None
    frame_skip: int | None
    vnc_kwargs: VncOptions | Mapping[str, Any] | None
    env_kwargs: Mapping[str, Any] | None
    tls: TlsFiles | None
    is_insecure: bool
    start_timeout_s: float
    silence_timeout_s: float
    step_timeout_s: float
    render_mode: str | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of ``make``, as they were given."""

    env_id: str
    remotes: int | str | None = None
    client_id: str | None = None
    backend: BackendName | Backend | None = None
    docker: DockerConfig | None = None
    mode: Mode | None = None
    actions: Literal["discrete", "events"] = "discrete"
    observation: ObservationConfig | None = None
    fps: float | None = None
    frame_skip: int | None = None
    vnc_kwargs: VncOptions | Mapping[str, Any] | None = None
    env_kwargs: Mapping[str, Any] | None = None
    tls: TlsFiles | None = None
    is_insecure: bool = False
    start_timeout_s: float = 60.0
    silence_timeout_s: float = 10.0
    step_timeout_s: float = 70.0
    render_mode: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in (None, "lockstep", "realtime"):
            raise ConfigError(f"mode: expected lockstep or realtime, got {self.mode!r}")
        if self.render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode: expected None or rgb_array, got {self.render_mode!r}")
        check_range("make", "start_timeout_s", self.start_timeout_s, 0.1, 3600)
        check_range("make", "step_timeout_s", self.step_timeout_s, 0.1, 3600)
        if self.frame_skip is not None:
            check_range("make", "frame_skip", self.frame_skip, 1, 10_000)

    @cached_property
    def parsed(self) -> RemoteCount | AllocatorAddress | list[Remote]:
        """What ``remotes`` says."""
        if self.is_local and self.remotes is None:
            return RemoteCount(1)
        return parse_remotes(self.remotes)

    @property
    def addresses(self) -> Sequence[Remote]:
        """The Remotes that somebody else runs; none where they are started."""
        return self.parsed if isinstance(self.parsed, list) else ()

    @property
    def allocator(self) -> AllocatorAddress | None:
        """Who lends the Remotes, where somebody does."""
        if not isinstance(self.parsed, AllocatorAddress):
            return None
        return replace(self.parsed, tls=self.tls)

    @property
    def count(self) -> int:
        """How many Remotes."""
        return len(self.parsed) if isinstance(self.parsed, list) else self.parsed.count or 1

    @property
    def is_counted(self) -> bool:
        """Whether ``remotes`` says how many."""
        has_count = self.allocator is None or self.allocator.count is not None
        return self.remotes is not None and has_count

    @cached_property
    def name(self) -> str:
        """The client's."""
        return self.client_id or f"client-{secrets.token_hex(3)}"

    @property
    def is_gym_core(self) -> bool:
        """Whether it is one of Gymnasium's own environments."""
        return self.env_id.startswith(GYM_CORE_PREFIX)

    @cached_property
    def is_plain(self) -> bool:
        """Whether it is an id of Gymnasium's that no catalog of ours has."""
        if self.is_gym_core or self.env_id in load_catalog().envs:
            return False
        try:
            gym_ids.find(self.env_id)
        except ConfigError:
            # That of the catalog names what there is; only Atari's says what to install.
            if self.env_id.startswith("ALE/"):
                raise
            return False
        return True

    @cached_property
    def is_local(self) -> bool:
        """Whether it is made in this process, or one of ours, without any Remote.

        Raises:
            ConfigError: It cannot be, or something else that was asked for needs a Remote.
        """
        named = self.backend if isinstance(self.backend, str) else None
        is_local = named == "local" or (
            self.is_gym_core
            and self.backend is None
            and not isinstance(self.remotes, str)
            and os.environ.get(VARIABLE) == "local"
        )
        if not is_local and not self.is_plain:
            return False
        if not self.is_plain and not self.is_gym_core:
            raise ConfigError(
                f"backend='local': {self.env_id} needs a remote; only Gymnasium's own environments "
                "run without, as gym-core.CartPole-v1 or CartPole-v1"
            )
        if not is_local and self.backend not in (None, "auto"):
            raise ConfigError(
                f"backend={self.backend!r}: {self.env_id} runs without a remote; to have one play "
                f"it, ask for {GYM_CORE_PREFIX}{self.env_id}"
            )
        self._check_local()
        return True

    @cached_property
    def spec(self) -> EnvSpec:
        """The environment; one of gym-core is made for it once in this process."""
        return load_catalog().env(self.env_id)

    @property
    def runtime(self) -> str:
        """Name of the environment's Runtime."""
        return "gym-core" if self.is_gym_core else self.spec.runtime

    @property
    def local_config(self) -> LocalConfig:
        """What is played without a Remote."""
        return LocalConfig(
            env_id=self.env_id,
            env_kwargs=dict(self.env_kwargs or {}),
            observation=self.observation,
            frame_skip=self.frame_skip or 1,
            render_mode=self.render_mode,
        )

    def needs(self, mode: Mode) -> RemoteNeeds:
        """Returns what Remotes are wanted for."""
        return RemoteNeeds(
            runtime=self.runtime,
            env_id=self.env_id,
            mode=mode,
            start_timeout_s=self.start_timeout_s,
            docker=self.docker or DockerConfig(),
            is_client_steady=self.client_id is not None,
        )

    def owner_of_time(self) -> Mode:
        """Returns the mode: as asked for, as the addresses call for, or the Runtime's first.

        Raises:
            ConfigError: The Runtime has no such mode, or something else that was asked for
                does not go with it.
        """
        modes = load_catalog().runtime(self.runtime).modes
        mode = self.mode or self._mode_of_addresses() or modes[0]
        if mode not in modes:
            raise ConfigError(f"mode: {self.env_id} has {' and '.join(modes)}, got {mode!r}")
        if mode != (self._mode_of_addresses() or mode):
            lacks = "gRPC port; lock-step needs grpc://" if mode == "lockstep" else _NO_SCREEN
            raise ConfigError(f"remotes: {self.addresses[0].id} has no {lacks}")
        if mode == "realtime" and any(remote.vnc is None for remote in self.addresses):
            raise ConfigError(f"remotes: {self.addresses[0].id} has no {_NO_SCREEN}")
        others = _ONLY_REALTIME if mode == "lockstep" else _ONLY_LOCKSTEP
        for field, default in others.items():
            is_for_https = field == "tls" and self.allocator is not None and self.allocator.is_tls
            if getattr(self, field) != default and not is_for_https:
                other = "realtime" if mode == "lockstep" else "lockstep"
                raise ConfigError(
                    f"{field}: belongs to mode={other!r}, and {self.env_id} runs in {mode} here"
                )
        return "lockstep" if mode == "lockstep" else "realtime"

    def slot_config(self, client_id: str) -> SlotConfig:
        """Returns what a slot in real time plays.

        Raises:
            ConfigError: A setting makes no sense.
        """
        options = self.vnc_kwargs
        if isinstance(options, Mapping):
            try:
                options = VncOptions(**options)
            except TypeError as error:
                known = ", ".join(VncOptions.__dataclass_fields__)
                raise ConfigError(f"vnc_kwargs: {error}; known: {known}") from None
        return SlotConfig(
            spec=self.spec,
            screen_px=load_catalog().runtime(self.runtime).screen_px,
            client_id=client_id,
            actions=self.actions,
            observation=self.observation or ObservationConfig(),
            vnc_options=options,
            start_timeout_s=self.start_timeout_s,
            silence_timeout_s=self.silence_timeout_s,
        )

    def _check_local(self) -> None:
        if self.mode == "realtime":
            raise ConfigError(f"mode: {self.env_id} has no screen here; it runs in lock-step")
        if isinstance(self.remotes, str) and not self.remotes.strip().isdigit():
            raise ConfigError(
                f"remotes: {self.env_id} is made here and has no remote; drop the addresses"
            )
        for field, default in {**_ONLY_REALTIME, **_ONLY_REMOTE}.items():
            if getattr(self, field) != default:
                raise ConfigError(f"{field}: {self.env_id} is made here and has no remote")

    def _mode_of_addresses(self) -> str | None:
        if not self.addresses:
            return None
        return "lockstep" if self.addresses[0].rpc is not None else "realtime"


_NO_SCREEN = (
    "screen, and real time is seen through one; give its port too, as in vnc://127.0.0.1:5900+15900"
)
_ONLY_REALTIME: Mapping[str, Any] = {"fps": None, "vnc_kwargs": None, "actions": "discrete"}
_ONLY_LOCKSTEP: Mapping[str, Any] = {
    "frame_skip": None,
    "env_kwargs": None,
    "tls": None,
    "is_insecure": False,
}
_ONLY_REMOTE: Mapping[str, Any] = {"tls": None, "is_insecure": False, "docker": None}
