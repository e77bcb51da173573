"""Backends by name, and the one that suits what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from raygym.core import Backend, Remote
from raygym.errors import ConfigError
from raygym.remote_env.fake_backend import FakeBackend, InProcess
from raygym.remote_env.process_backend import ProcessBackend
from raygym.remote_env.static_backend import StaticBackend

BackendName = Literal["process", "fake", "static"]


def make_backend(
    name: BackendName,
    *,
    remotes: Sequence[Remote] = (),
    start_timeout_s: float = 60.0,
    arguments: Sequence[str] = (),
) -> Backend:
    """Makes a Backend by name; whoever calls this closes it.

    Args:
        name: ``process``, ``fake`` or ``static``.
        remotes: The addresses, for ``static`` only.
        start_timeout_s: Longest wait for a Remote to name its endpoints.
        arguments: More of the command line of each Remote, for ``process`` only.

    Raises:
        ConfigError: Unknown name, or a name that does not fit the addresses.
    """
    if name not in ("process", "fake", "static"):
        raise ConfigError(f"backend: expected process, fake or static, got {name!r}")
    if (name == "static") != bool(remotes):
        raise ConfigError(
            f"backend={name!r}: "
            + (
                "starts remotes itself; drop the addresses in remotes="
                if remotes
                else "needs addresses, as in remotes='vnc://127.0.0.1:5900+15900'"
            )
        )
    if name == "process":
        return ProcessBackend(start_timeout_s=start_timeout_s, arguments=arguments)
    return FakeBackend(_in_process) if name == "fake" else StaticBackend(remotes)


def choose_backend(
    backend: BackendName | Backend | None,
    remotes: Sequence[Remote],
    *,
    start_timeout_s: float,
    arguments: Sequence[str] = (),
) -> tuple[Backend, bool]:
    """Returns a Backend, and whether it belongs to the caller.

    Args:
        backend: As it was asked for; None takes what suits ``remotes``.
        remotes: Addresses; none to start Remotes.
        start_timeout_s: See ``make_backend``.
        arguments: See ``make_backend``.

    Raises:
        ConfigError: See ``make_backend``.
    """
    if backend is None:
        backend = "static" if remotes else "process"
    if isinstance(backend, str):
        made = make_backend(
            backend, remotes=remotes, start_timeout_s=start_timeout_s, arguments=arguments
        )
        return made, True
    if remotes:
        raise ConfigError("give addresses in remotes= or a Backend, not both")
    return backend, False


def _in_process() -> InProcess:
    from raygym.runtimes.in_process import InProcessHost

    return InProcessHost()
