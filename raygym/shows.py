"""What makes a run seen: metrics, and pictures for the wall."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Sequence

from raygym.service.metrics.meters import Meters
from raygym.service.spectators import Show, Spectator
from raygym.wall.pictures import Pictures, PicturesConfig


def show(
    env_id: str,
    *,
    run: str = "",
    runtime: str = "",
    mode: str = "lockstep",
    backend: str = "",
    client_id: str = "",
    channels: int | None = None,
    opens: Sequence[Callable[[Show, str], Spectator]] = (),
) -> Show:
    """Has a RolloutService, or an algorithm of RLlib on it, count metrics and show its pictures.

    ``RolloutService(env_id, 64, show=raygym.show(env_id))``.

    Args:
        env_id: What is played.
        run: Name of the run, in metrics and on the wall; empty makes one.
        runtime: Of the environment; empty takes what stands before the id's point.
        mode: ``lockstep`` or ``realtime``.
        backend: What makes its Remotes, for the actors' names; empty for none.
        client_id: Name of the run to its Remotes, for the same.
        channels: Of one frame in an observation, 1 or 3; None guesses by the last axis.
        opens: More spectators, as ``Show.opens`` has them.
    """
    return Show(
        run=run or f"{env_id}-{secrets.token_hex(2)}",
        env_id=env_id,
        runtime=runtime or (env_id.partition(".")[0] if "." in env_id else "gymnasium"),
        mode=mode,
        backend=backend,
        client_id=client_id,
        opens=(
            Meters.open,
            functools.partial(Pictures.open, PicturesConfig(channels=channels)),
            *opens,
        ),
    )
