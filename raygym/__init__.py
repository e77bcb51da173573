"""raygym: any program behind a screen or a socket as a Gymnasium environment, many of them on Ray.

Importing it registers every EnvId with Gymnasium. What drives them is imported when it is
first used, so that a Remote, which imports this package too, stays small.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from raygym.registration import register_all
from raygym.version import VERSION

if TYPE_CHECKING:
    from raygym.config import DockerConfig, ObservationConfig, TlsFiles, VncOptions
    from raygym.core import Outcome
    from raygym.environments import make, make_vec
    from raygym.remote_env.rpc.remote import RemoteEnv, RemoteVectorEnv
    from raygym.runtimes.serve import serve_env
    from raygym.service.ray_vector_env import RayVectorEnv
    from raygym.service.rollout_service import RolloutService
    from raygym.shows import show

__version__ = VERSION
__all__ = [
    "DockerConfig",
    "ObservationConfig",
    "Outcome",
    "RayVectorEnv",
    "RemoteEnv",
    "RemoteVectorEnv",
    "RolloutService",
    "TlsFiles",
    "VncOptions",
    "make",
    "make_vec",
    "register_all",
    "serve_env",
    "show",
]

_HOMES = {
    "DockerConfig": "raygym.config",
    "ObservationConfig": "raygym.config",
    "TlsFiles": "raygym.config",
    "VncOptions": "raygym.config",
    "Outcome": "raygym.core",
    "RayVectorEnv": "raygym.service.ray_vector_env",
    "RemoteEnv": "raygym.remote_env.rpc.remote",
    "RemoteVectorEnv": "raygym.remote_env.rpc.remote",
    "serve_env": "raygym.runtimes.serve",
    "RolloutService": "raygym.service.rollout_service",
    "show": "raygym.shows",
    "make": "raygym.environments",
    "make_vec": "raygym.environments",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'raygym' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


register_all()
