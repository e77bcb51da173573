"""Makes the environments and policies of a run, in the processes where they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium
import numpy as np
import ray
import torch

from raygym.catalog import load_catalog
from raygym.config import ObservationConfig
from raygym.core import Backend, UInt8Array
from raygym.environments.backends import BackendName
from raygym.environments.needs import RemoteNeeds
from raygym.policies.a3c import A3CConfig, A3CPolicy
from raygym.policies.networks import NetworkConfig

EnvFactory = Callable[[int], gymnasium.Env[UInt8Array, Any]]
"""Makes the environment of a slot; must pickle."""


@dataclass(frozen=True, kw_only=True)
class EnvSettings:
    """All that ``make_env`` needs; small, and it pickles."""

    env: str
    addresses: tuple[str, ...] | None
    client_id: str
    backend: BackendName | None
    observation: ObservationConfig | None
    fps: float | None
    frame_skip: int | None = None
    render_mode: Literal["rgb_array"] | None = None
    allocator: str | None = field(default=None, repr=False)
    """Address of who lends the remotes, where there are no addresses of them."""

    @property
    def mode(self) -> Literal["lockstep", "realtime"]:
        """Who owns time."""
        return "realtime" if self.frame_skip is None else "lockstep"

    def make_kwargs(self) -> dict[str, Any]:
        """Returns the arguments of ``raygym.make`` but for the remotes."""
        return {
            "client_id": self.client_id,
            "backend": self.backend,
            "observation": self.observation,
            "mode": self.mode,
            "fps": self.fps if self.frame_skip is None else None,
            "frame_skip": self.frame_skip,
            "render_mode": self.render_mode,
        }


def make_env(settings: EnvSettings, slot: int) -> gymnasium.Env[UInt8Array, Any]:
    """Makes the environment of a slot, with one remote of its own."""
    # Here, so that a plan costs the trainer's own process nothing.
    from raygym.environments import make

    backend: BackendName | Backend | None = settings.backend
    if backend == "docker" and ray.is_initialized():
        backend = _leased_on_ray(settings.env, settings.mode)
    arguments = {
        **settings.make_kwargs(),
        "remotes": settings.addresses[slot] if settings.addresses else settings.allocator or 1,
        "client_id": f"{settings.client_id}-{slot}",
        "backend": backend,
    }
    return make(settings.env, **arguments)


def _leased_on_ray(env_id: str, mode: Literal["lockstep", "realtime"]) -> Backend:
    """Returns containers whose leases the cluster's registry keeps; closed as the process ends."""
    from raygym.service.leased import leased_backend_on_ray

    needs = RemoteNeeds(runtime=load_catalog().env(env_id).runtime, env_id=env_id, mode=mode)
    return leased_backend_on_ray(variant=needs.variant, env_id=env_id)


def make_policy(
    network: NetworkConfig,
    learner: A3CConfig,
    seed: int,
    slot: int,
    random_state: Mapping[str, Any] | None,
) -> A3CPolicy:
    """Makes the policy of a slot, for a process of its own: torch gets one thread there."""
    torch.set_num_threads(1)
    random = np.random.default_rng(np.random.SeedSequence([seed, slot]))
    if random_state is not None:
        random.bit_generator.state = dict(random_state)
    return A3CPolicy(network, learner, random)
