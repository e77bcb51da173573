"""The plain way into RLlib: its own EnvRunners over a VectorEnv of ours."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode
from ray import tune


def register(env_id: str, *, name: str | None = None, **make_kwargs: Any) -> str:
    """Registers an environment with RLlib and Tune.

    For ``.environment(name)`` with
    ``.env_runners(num_envs_per_env_runner=K, gym_env_vectorize_mode="vector_entry_point")``;
    each runner then has a vector environment of K slots. RLlib's connectors apply. A failed
    step is an ordinary truncation to RLlib here: its learners see it. ``rollout_config`` leaves
    it out.

    Args:
        env_id: As ``raygym.make_vec`` takes it.
        name: What RLlib calls it; None: ``raygym-`` and the id.
        **make_kwargs: For ``raygym.make_vec``, or ``raygym.make`` for a single environment.

    Returns:
        The name.
    """
    name = name or f"raygym-{env_id}"
    tune.register_env(name, partial(_create, env_id, make_kwargs))
    return name


def _create(
    env_id: str, make_kwargs: dict[str, Any], context: dict[str, Any]
) -> gymnasium.Env[Any, Any] | gymnasium.vector.VectorEnv[Any, Any, Any]:
    # Here, so that whoever only registers loads little.
    from raygym.environments import make, make_vec

    arguments = make_kwargs | {k: v for k, v in context.items() if k != "num_envs"}
    if "num_envs" not in context:
        return make(env_id, **arguments)
    # RLlib takes the step after an end for the reset.
    return make_vec(
        env_id, context["num_envs"], autoreset_mode=AutoresetMode.NEXT_STEP, **arguments
    )
