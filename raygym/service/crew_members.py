"""What a crew is made of: its settings, and what is known of each actor over its lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ray import ObjectRef

from raygym.errors import RaygymError
from raygym.service.actor_answers import ActorConfig, Answer, PolicyFactory, SlotsFactory
from raygym.service.service_stats import ActorAccount
from raygym.service.shared_frames import FramesReader


class RolloutsFailed(RaygymError):
    """No actor of a RolloutService can play; the message ends with what the last one said."""


@dataclass(frozen=True, kw_only=True)
class CrewConfig:
    """What a crew is made of."""

    actor: ActorConfig
    """Of every actor, but for its number, slots and episodes."""
    slots_factory: SlotsFactory
    policy_factory: PolicyFactory | None
    policy: Any
    """A policy that every actor gets a copy of; None for none."""
    actor_options: Mapping[str, Any]
    """More of Ray's options."""
    answer_timeout_s: float
    """An actor that is silent, or stuck within its slots, for longer is replaced."""
    start_timeout_s: float
    """The same until its slots are there."""


@dataclass
class Member:
    """One actor, and what is known of it over its lives."""

    number: int
    first_slot: int
    num_slots: int
    handle: Any = None
    """None while it backs off."""
    node: str = ""
    failures: int = 0
    """In a row."""
    fatal: RaygymError | None = None
    error: str = ""
    retry_at_s: float = 0.0
    has_answered: bool = False
    version_sent: int = -1
    question: ObjectRef[Any] | None = None
    asked_s: float = 0.0
    was_to_play_on: bool = True
    """Whether the last question let it begin another Rollout."""
    answer: Answer | None = None
    """The last, without its Rollout."""
    account: ActorAccount = field(default_factory=ActorAccount)
    frames: FramesReader = field(default_factory=FramesReader)
    can_map: bool | None = None
    """Whether its shared blocks can be looked into; None until it was tried."""

    @property
    def slots(self) -> range:
        """The numbers of its slots."""
        return range(self.first_slot, self.first_slot + self.num_slots)
