"""The settings of dm_env_rpc requests: what may be in them, read and checked.

``CreateWorld`` takes ``env_id`` and ``render_mode`` (strings), ``seed`` (an integer), and
``args``, with which remote-gym describes an environment: JSON with ``entrypoint`` and
``entrypoint_kwargs``. Here an entrypoint is an environment id that the server offers, never a
file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raygym.errors import RemoteProtocolError
from raygym.runtimes.lockstep.dm_fields import refuse
from raygym.wire.dm_tensors import tensor_from_message
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm
from raygym.wire.proto import raygym_v1_pb2 as pb

CAPABILITIES = "raygym.caps"
"""Setting of ``JoinWorld`` with which a peer says that it knows a Discrete's start."""

_CREATE_NAMES = ("args", "env_id", "render_mode", "seed")
_ARGS_NAMES = ("entrypoint", "entrypoint_kwargs", "repo", "reference")
_SEED_LIMIT = 2**63


@dataclass(frozen=True, kw_only=True)
class CreateSettings:
    """What a new world is to hold."""

    env_id: str = ""
    """One that the server offers; empty for its only or first one."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """For the environment's factory."""
    render_mode: str = ""
    """Empty: as the factory makes it."""
    seed: int | None = None
    """For the first sequence."""


def check_names(request: str, settings: Mapping[str, dm.Tensor], allowed: tuple[str, ...]) -> None:
    """Raises RequestRefused where a setting has another name than those allowed."""
    unknown = sorted(set(settings) - set(allowed))
    if unknown:
        raise refuse(
            pb.Error.INVALID_ARGUMENT,
            f"{request} has no setting {unknown[0]!r}; it has {', '.join(sorted(allowed))}",
        )


def seed_setting(
    request: str, settings: Mapping[str, dm.Tensor], *, names: tuple[str, ...] | None = None
) -> int | None:
    """Returns the setting ``seed``, None if there is none.

    Args:
        request: For messages.
        settings: Of the request.
        names: Checked first to be all the names there may be, if given.

    Raises:
        RequestRefused: A name is unknown, or the seed is no integer from 0 to 2**63 - 1.
    """
    if names is not None:
        check_names(request, settings, names)
    if "seed" not in settings:
        return None
    value = _value(request, "seed", settings["seed"])
    if value.shape != () or not np.issubdtype(value.dtype, np.integer):
        raise _refusal(request, "seed", "one integer", f"{value.dtype} of shape {value.shape}")
    seed = int(value)
    if not 0 <= seed < _SEED_LIMIT:
        raise _refusal(request, "seed", "0 to 2**63 - 1", str(seed))
    return seed


def create_settings(settings: Mapping[str, dm.Tensor]) -> CreateSettings:
    """Reads the settings of a CreateWorld.

    Raises:
        RequestRefused: A setting is unknown or makes no sense.
    """
    check_names("CreateWorld", settings, _CREATE_NAMES)
    args = _args(_text("args", settings)) if "args" in settings else {}
    kwargs = dict(args.get("entrypoint_kwargs") or {})
    env_id = args.get("entrypoint") or ""
    render_mode = kwargs.pop("render_mode", None) or ""
    if not _is_text(env_id) or not _is_text(render_mode):
        raise _refusal("CreateWorld", "args", "strings as entrypoint and render_mode", str(args))
    return CreateSettings(
        env_id=_text("env_id", settings) or env_id,
        kwargs=kwargs,
        render_mode=_text("render_mode", settings) or render_mode,
        seed=seed_setting("CreateWorld", settings),
    )


def _is_text(value: Any) -> bool:
    """Returns whether it is a string that UTF-8 can say; JSON has others."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def _args(text: str) -> dict[str, Any]:
    try:
        args = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise _refusal("CreateWorld", "args", "JSON", f"{text[:80]!r} ({error})") from error
    if not isinstance(args, dict) or not isinstance(args.get("entrypoint_kwargs") or {}, dict):
        raise _refusal("CreateWorld", "args", "a JSON object", f"{text[:80]!r}")
    unknown = sorted(set(args) - set(_ARGS_NAMES))
    if unknown:
        raise _refusal("CreateWorld", "args", f"only {', '.join(_ARGS_NAMES)}", unknown[0])
    if args.get("repo") or args.get("reference"):
        raise refuse(
            pb.Error.INVALID_ARGUMENT,
            "CreateWorld args: this server fetches no repositories; install the environment "
            "where the server runs and leave repo and reference out",
        )
    return args


def _text(name: str, settings: Mapping[str, dm.Tensor]) -> str:
    if name not in settings:
        return ""
    value = _value("CreateWorld", name, settings[name])
    if value.shape != () or not isinstance(value.item(), str):
        found = f"{value.dtype} of shape {value.shape}"
        raise _refusal("CreateWorld", name, "one string", found)
    return str(value.item())


def _value(request: str, name: str, tensor: dm.Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    try:
        return np.asarray(tensor_from_message(tensor))
    except RemoteProtocolError as error:
        raise _refusal(request, name, "a tensor", str(error)) from error


def _refusal(request: str, name: str, expected: str, found: str) -> Exception:
    return refuse(
        pb.Error.INVALID_ARGUMENT, f"{request} setting {name!r}: expected {expected}, got {found}"
    )
