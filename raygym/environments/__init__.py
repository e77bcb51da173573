"""``make`` and ``make_vec``: from an EnvId to a running environment.

What drives environments is imported when it is first used: who only asks which backend it
would be pays for no codec.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from raygym.registration import register_all

if TYPE_CHECKING:
    from raygym.environments.backends import RemoteNeeds, make_backend
    from raygym.environments.making import make, make_registered, make_vec, make_vec_registered

__all__ = [
    "RemoteNeeds",
    "make",
    "make_backend",
    "make_registered",
    "make_vec",
    "make_vec_registered",
    "register_all",
]

_IN_BACKENDS = ("RemoteNeeds", "make_backend")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "backends" if name in _IN_BACKENDS else "making"
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
