"""``make`` and ``make_vec``: from an EnvId to a running environment."""

from raygym.environments.backends import make_backend
from raygym.environments.making import make, make_registered, make_vec, make_vec_registered
from raygym.registration import register_all

__all__ = [
    "make",
    "make_backend",
    "make_registered",
    "make_vec",
    "make_vec_registered",
    "register_all",
]
