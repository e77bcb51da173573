"""Tells Gymnasium of every environment in the catalog, without importing what drives them."""

from __future__ import annotations

import logging

import gymnasium

from raygym.catalog import load_catalog
from raygym.errors import ConfigError

logger = logging.getLogger(__name__)


def register_all() -> None:
    """Registers every EnvId of the catalog with Gymnasium; those it knows stay as they are.

    A malformed game in RAYGYM_GAMES is logged here and raised by ``raygym.make``.
    """
    try:
        env_ids = list(load_catalog().envs)
    except ConfigError as error:
        logger.warning("no environment is registered with Gymnasium: %s", error)
        return
    for env_id in env_ids:
        if env_id in gymnasium.registry:
            continue
        gymnasium.register(
            id=env_id,
            entry_point="raygym.environments:make_registered",
            vector_entry_point="raygym.environments:make_vec_registered",
            nondeterministic=True,
            order_enforce=True,
            disable_env_checker=True,
            kwargs={"env_id": env_id},
        )
