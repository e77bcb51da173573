"""The settings of a slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raygym.catalog import EnvSpec
from raygym.config import ObservationConfig, VncOptions, check_range
from raygym.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SlotConfig:
    """What a slot plays, and how long it waits."""

    spec: EnvSpec
    """The environment."""
    screen_px: tuple[int, int]
    """Width and height of the screen of its Runtime."""
    client_id: str
    """On whose behalf."""
    actions: Literal["discrete", "events"] = "discrete"
    """The catalog's key sets, or Universe's events."""
    observation: ObservationConfig = ObservationConfig()  # noqa: RUF009  frozen
    """Scale and colours."""
    vnc_options: VncOptions | None = None
    """None takes what suits the endpoint."""
    start_timeout_s: float = 60.0
    """Longest time from the start of a Remote to its first frame, and of a reset."""
    silence_timeout_s: float = 10.0
    """After this long without a message or frame a Remote counts as lost."""
    start_tries: int = 3
    """How many Remotes a reset tries before it raises."""
    backoff_s: float = 0.5
    """Wait before the second try; it doubles with each."""

    def __post_init__(self) -> None:
        if self.actions not in ("discrete", "events"):
            raise ConfigError(f"actions: expected discrete or events, got {self.actions!r}")
        check_range("SlotConfig", "start_timeout_s", self.start_timeout_s, 0.1, 3600)
        check_range("SlotConfig", "silence_timeout_s", self.silence_timeout_s, 0.1, 3600)
        check_range("SlotConfig", "start_tries", self.start_tries, 1, 100)
