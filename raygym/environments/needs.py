"""What an environment asks of whoever makes its Remotes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from raygym.config import DockerConfig
from raygym.gym_ids import ANY_ENV
from raygym.gym_ids import PREFIX as GYM_CORE_PREFIX


@dataclass(frozen=True, kw_only=True)
class RemoteNeeds:
    """What Remotes are wanted for."""

    runtime: str
    """Name of their Runtime."""
    env_id: str
    """What is played: ``gym-core.CartPole-v1``; ``gym-core.*`` where that is to be said later."""
    mode: Literal["lockstep", "realtime"] = "realtime"
    """Who owns time."""
    start_timeout_s: float = 60.0
    """Longest wait for a Remote to name its endpoints."""
    docker: DockerConfig = field(default_factory=DockerConfig)
    """How containers are kept."""
    is_client_steady: bool = False
    """Whether the client's name was chosen to be used again."""

    @property
    def process_arguments(self) -> list[str]:
        """More of the command line of a Remote that is a process."""
        given = ["--mode", self.mode]
        if self.env_id == GYM_CORE_PREFIX + ANY_ENV:
            given.append("--any-env")
        elif self.env_id.startswith(GYM_CORE_PREFIX):
            given += ["--env", self.env_id]
        return given

    @property
    def variant(self) -> tuple[str, ...]:
        """More of the command line of a container; it can be rebound to any environment."""
        is_gym_core = self.env_id.startswith(GYM_CORE_PREFIX)
        return ("--mode", self.mode, *(["--any-env"] if is_gym_core else []))
