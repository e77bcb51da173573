"""From a started Remote to one that is ready to play, or an error that says what is not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from raygym.catalog import EnvSpec
from raygym.config import VncOptions
from raygym.core import Remote
from raygym.errors import ConfigError, RaygymError, RemoteFailedToStart
from raygym.remote_env.connection import Connection, View
from raygym.remote_env.rewarder_session import RewarderSession
from raygym.remote_env.vnc_session import VncSession

T = TypeVar("T")


@dataclass(frozen=True)
class Ready:
    """A Connection whose first episode runs."""

    connection: Connection
    episode_id: str | None
    """None without a reward channel."""
    view: View
    """The first frame of the episode."""


def make_ready(
    remote: Remote,
    spec: EnvSpec,
    *,
    seed: int | None,
    options: VncOptions | None,
    timeout_s: float,
    silence_timeout_s: float = 10.0,
    log_tail: Callable[[], str] = lambda: "",
) -> Ready:
    """Connects to a Remote, starts an episode and waits for its first frame.

    Args:
        remote: A started Remote.
        spec: What to play.
        seed: Seed of the first episode; None lets the Remote choose.
        options: Of VNC; None takes what suits the endpoint.
        timeout_s: Longest time for all of it.
        silence_timeout_s: See Connection.
        log_tail: Returns the end of the Remote's own log, for the error.

    Raises:
        RemoteFailedToStart: Names the layer that did not answer; ends with the log.
        ConfigError: The Remote has no screen.
    """
    if remote.vnc is None:
        raise ConfigError(
            f"{remote.id}: {spec.id} is seen through a screen, and this address has none; "
            "give its port too, as in vnc://host:5900+15900"
        )
    endpoint = remote.vnc
    stages = _Stages(remote, time.monotonic() + timeout_s, log_tail)
    vnc = stages.run(
        "RFB handshake",
        lambda left_s: VncSession(
            endpoint, password=remote.password, options=options, connect_timeout_s=left_s
        ),
    )
    rewarder: RewarderSession | None = None
    try:
        rewarder = stages.run("describe", lambda left_s: _rewarder(remote, left_s))
        connection = Connection(remote, spec, vnc, rewarder, silence_timeout_s=silence_timeout_s)
        episode_id = stages.run(
            "reset", lambda left_s: connection.reset(seed=seed, timeout_s=left_s)
        )
        stages.run("first picture", lambda _: connection.watch())
        view = stages.run(
            "first picture", lambda left_s: connection.await_fresh_view(timeout_s=left_s)
        )
    except BaseException:
        vnc.close()
        if rewarder is not None:
            rewarder.close()
        raise
    return Ready(connection, episode_id, view)


def _rewarder(remote: Remote, left_s: float) -> RewarderSession | None:
    if remote.rewarder is None:
        return None
    return RewarderSession(remote.rewarder, password=remote.password, connect_timeout_s=left_s)


class _Stages:
    """Runs the layers one after another until one deadline."""

    def __init__(self, remote: Remote, deadline_s: float, log_tail: Callable[[], str]) -> None:
        self._remote = remote
        self._started_s = time.monotonic()
        self._deadline_s = deadline_s
        self._log_tail = log_tail

    def run(self, layer: str, stage: Callable[[float], T]) -> T:
        try:
            return stage(max(0.1, self._deadline_s - time.monotonic()))
        except RaygymError as error:
            remote = self._remote
            log = self._log_tail()
            raise RemoteFailedToStart(
                f"{remote.id} ({remote.runtime}) did not get ready: {layer} failed after "
                f"{time.monotonic() - self._started_s:.1f} s: {error}"
                + (f"\nIts log ends:\n{log}" if log else ""),
                remote_id=remote.id,
                layer=layer,
                log=log,
            ) from error
