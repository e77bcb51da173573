"""What a Runtime, an environment and a Flash game are, as both ends need to know them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Region:
    """A rectangle of the screen, in pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Something that can host a family of environments."""

    name: str
    """As in the first part of its EnvIds' home: ``flashgames``."""
    screen_px: tuple[int, int]
    """Width and height of its screen."""
    modes: tuple[str, ...] = ("realtime",)
    """Who may own time: ``realtime``, ``lockstep``."""
    image: str | None = None
    """Repository of its container image, without a tag; None where there is no image."""
    digest: str | None = None
    """``sha256:...`` of the published image; None where only a local build is known."""
    memory_mib: int = 1024
    """Most memory of its container."""
    cpus: float = 2.0
    """Most processors of its container."""
    pids: int = 300
    """Most processes and threads of its container."""
    needs_network: bool = False
    """Whether its container must reach the outside world."""
    task: str | None = None
    """``/path/file.py:Class`` of a user's own Runtime; None for a built-in one."""


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """One environment, as both ends need to know it."""

    id: str
    """EnvId: ``flashgames.NeonRace-v0``."""
    runtime: str
    """Name of the Runtime that hosts it."""
    title: str
    """As a person reads it."""
    fps: float
    """Frames the environment shows a second."""
    region: Region
    """The part of the screen that is the observation."""
    actions: tuple[tuple[str, ...], ...]
    """The Discrete actions in order: the keys held down by each; empty for none."""
    is_momentary: bool = False
    """Whether an action is over at once, and may point: see ``raygym.strokes``."""
    max_episode_s: float
    """Longest episode, in seconds of the environment's own time."""
    score_floor: float | None = None
    """Mean score of a random policy; None where it was not measured."""
    score_ceiling: float | None = None
    """Mean score of the scripted driver; None where it was not measured."""
    game_dir: Path | None = None
    """Folder of its ``game.yaml``, for a Flash game."""
    page: str | None = None
    """Name of its page in the package miniwob, for a task of wob."""

    def share_of_ceiling(self, score: float) -> float | None:
        """Returns where ``score`` lies from floor (0.0) to ceiling (1.0), None if unknown."""
        if self.score_floor is None or self.score_ceiling is None:
            return None
        return (score - self.score_floor) / (self.score_ceiling - self.score_floor)


@dataclass(frozen=True, kw_only=True)
class ScoreSource:
    """Where a Flash game's score comes from."""

    source: Literal["call", "poll", "none"] = "none"
    """``call``: the SWF calls ``ExternalInterface.call(name, score, is_over)``;
    ``poll``: the page asks the SWF's callback ``name`` each frame; ``none``: no rewards."""
    name: str = ""
    """Function or callback name."""
    over: str = ""
    """Callback that answers true when the game is over (``poll`` only; may be empty)."""


@dataclass(frozen=True, kw_only=True)
class Game:
    """A Flash game as its ``game.yaml`` describes it."""

    spec: EnvSpec
    swf: Path
    """The SWF file."""
    score: ScoreSource
    """Where rewards come from."""
    reset: str = ""
    """ExternalInterface callback that starts an episode from a seed; empty reloads the SWF."""
    state: str = ""
    """ExternalInterface callback that returns the game's state as an object; may be empty."""
    start_keys: tuple[str, ...] = field(default=())
    """Keys to press once after loading, for games that open with a menu."""
