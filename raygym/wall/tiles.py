"""What the wall knows of a slot: a row of facts and a picture, as they travel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from raygym.core import Remote

HISTORY_EPISODES = 30
"""How many of a slot's last episodes a row remembers."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one slot fares."""

    run: str
    slot: int
    """Its number within the run."""
    env_id: str = ""
    runtime: str = ""
    mode: str = ""
    """``realtime`` or ``lockstep``."""
    actor: str = ""
    node: str = ""
    """Id of the Ray node of its actor."""
    state: str = "starting"
    """As in ``SamplerReport.state``."""
    error: str = ""
    """Why its last start failed; empty once it plays."""
    episodes: int = 0
    """That ended since the actor began."""
    score: float | None = None
    """Of the last episode."""
    outcome: str = ""
    """Of the last episode; empty before the first ended."""
    reason: str = ""
    """What failed in the last episode; empty for ``ok``."""
    seconds: float = 0.0
    """How long the last episode took."""
    steps: int = 0
    """Of the last episode."""
    scores: Sequence[float] = ()
    """Of the last episodes, newest last, HISTORY_EPISODES at most."""
    failed: Sequence[bool] = ()
    """Which of them failed."""
    reaction_ms: float | None = None
    """Mean reaction time of the last report; None where it is not measured."""
    remotes_lost: int = 0
    """Over the life of the slot."""
    remote_id: str = ""
    """What it plays on; empty without a Remote."""
    has_screen: bool = False
    """Whether a person can look in there over VNC."""

    @property
    def key(self) -> str:
        """The slot's name on the wall."""
        return f"{self.run}/{self.slot}"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What the agent of a slot saw last."""

    slot: int
    kind: str
    """``jpeg``, or ``numbers``: float32, little-endian."""
    data: bytes
    width_px: int = 0
    height_px: int = 0
    age_s: float = 0.0
    """How old it was when it was sent."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What one actor tells the wall, every other second or more often."""

    run: str
    actor: str
    slots: Sequence[int]
    """All it plays, whether there is news of them or not."""
    rows: Sequence[Row] = ()
    """Those that changed."""
    remotes: Sequence[tuple[int, Remote | None]] = field(default=(), repr=False)
    """What slots play on now, with passwords; where it changed."""
    pictures: Sequence[Picture] = ()
    is_last: bool = False
    """Whether the actor ends with this."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What an actor's pictures are wanted for."""

    watched: frozenset[int] = frozenset()
    """Slots that somebody sees small."""
    large: frozenset[int] = frozenset()
    """Slots that somebody looks at in full."""
    whole: bool = False
    """Whether all rows are wanted again, as by a hub that has just started."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What one server of the wall has in view."""

    name: str
    """Unique to the server."""
    watched: frozenset[str] = frozenset()
    """Keys of slots."""
    large: frozenset[str] = frozenset()
    """Keys of slots."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """News of one slot."""

    row: Row
    heard_s: float
    """How long ago its actor said anything."""
    is_over: bool
    """Whether its actor has taken leave."""
    picture: Picture | None
    """The newest one; None where it has not changed."""


@dataclass(frozen=True, kw_only=True)
class News:
    """What changed since a server of the wall asked last."""

    epoch: str
    """Another one means that the hub has started anew, and that this is everything."""
    version: int
    """What to ask from next time."""
    tiles: Sequence[Tile] = ()
    gone: Sequence[str] = ()
    """Keys of slots that were forgotten."""
    heard_s: dict[str, float] = field(default_factory=dict)
    """How long ago the actor of each slot said anything."""


@dataclass(frozen=True, kw_only=True)
class ScreenPlace:
    """Where the screen of a slot is."""

    remote_id: str
    node: str
    """Id of the Ray node; empty outside Ray."""
    remote: Remote | None = field(default=None, repr=False)
    """None where only its name is known."""
