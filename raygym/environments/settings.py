"""What ``make`` and ``make_vec`` are asked for, and whether it goes together."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from raygym.catalog import EnvSpec, load_catalog
from raygym.config import DockerConfig, ObservationConfig, TlsFiles, VncOptions, check_range
from raygym.core import Backend, Remote
from raygym.environments.backends import BackendName, RemoteNeeds
from raygym.errors import ConfigError
from raygym.gym_ids import PREFIX as GYM_CORE_PREFIX
from raygym.remote_env.address import RemoteCount, parse_remotes
from raygym.remote_env.slot_config import SlotConfig

Mode = Literal["lockstep", "realtime"]
"""Who owns time: the agent, or the environment."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of ``make`` and ``make_vec``, as they were given."""

    env_id: str
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
    def parsed(self) -> RemoteCount | list[Remote]:
        """What ``remotes`` says."""
        return parse_remotes(self.remotes)

    @property
    def addresses(self) -> Sequence[Remote]:
        """The Remotes that somebody else runs; none where they are started."""
        return () if isinstance(self.parsed, RemoteCount) else self.parsed

    @property
    def count(self) -> int:
        """How many Remotes."""
        return self.parsed.count if isinstance(self.parsed, RemoteCount) else len(self.parsed)

    @cached_property
    def name(self) -> str:
        """The client's."""
        return self.client_id or f"client-{secrets.token_hex(3)}"

    @property
    def is_gym_core(self) -> bool:
        """Whether it is one of Gymnasium's own environments."""
        return self.env_id.startswith(GYM_CORE_PREFIX)

    @cached_property
    def spec(self) -> EnvSpec:
        """The environment; one of gym-core is made for it once in this process."""
        return load_catalog().env(self.env_id)

    @property
    def runtime(self) -> str:
        """Name of the environment's Runtime."""
        return "gym-core" if self.is_gym_core else self.spec.runtime

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
            if getattr(self, field) != default:
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
