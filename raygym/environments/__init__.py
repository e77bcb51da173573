"""``make``, ``make_vec`` and ``make_slots``: from an EnvId to a running environment.

What drives environments is imported when it is first used: who only asks which backend it
would be pays for no codec.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from raygym.registration import register_all

if TYPE_CHECKING:
    from raygym.environments.backends import make_backend
    from raygym.environments.making import make, make_registered
    from raygym.environments.needs import RemoteNeeds
    from raygym.environments.slots import make_slots
    from raygym.environments.vectors import make_vec, make_vec_registered

__all__ = [
    "RemoteNeeds",
    "make",
    "make_backend",
    "make_registered",
    "make_slots",
    "make_vec",
    "make_vec_registered",
    "register_all",
]

_HOMES = {
    "RemoteNeeds": "needs",
    "make_backend": "backends",
    "make": "making",
    "make_registered": "making",
    "make_slots": "slots",
    "make_vec": "vectors",
    "make_vec_registered": "vectors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
