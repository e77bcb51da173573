"""What a RolloutActor is told, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from raygym.core import Rollout
from raygym.errors import RaygymError
from raygym.service.reports import SamplerReport
from raygym.service.shared_frames import FramesAddress
from raygym.service.slot_sampler import SlotPolicy
from raygym.service.spectators import Show
from raygym.vector.slots import SlotReport, Slots
from raygym.vector.supervision import Supervision

SlotsFactory = Callable[[int, int], Slots]
"""Makes the slots of an actor, given the number of the first and how many; must pickle."""
PolicyFactory = Callable[[int], SlotPolicy]
"""Makes the policy of an actor, given its number; called inside it; must pickle."""


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """How one RolloutActor plays."""

    number: int
    """Which actor of its service."""
    first_slot: int
    """Number of its first slot."""
    num_slots: int
    rollout_steps: int
    """T."""
    prefetch: int = 1
    """Rollouts that it plays ahead; 0: plays only while it is asked."""
    columns: int | None = None
    """How many slots make a Rollout; None: half of them, and who comes soon after."""
    linger: float = 0.5
    """How much longer to wait for the other slots, as a share of the time so far."""
    waits_for_learner: bool = True
    """Whether it stops once ``prefetch`` rollouts wait; otherwise the oldest of them goes."""
    reward_scale: float = 1.0
    seeds_every_episode: bool = False
    seed: int = 0
    env_id: str = ""
    """For the log."""
    first_episodes: tuple[int, ...] = ()
    """From where each slot counts its episodes; empty: 0."""
    orphan_timeout_s: float = 60.0
    """An actor that nobody called for so long closes its slots and ends."""
    service_node: str = ""
    """Ray node of the service; an actor on it shares its observations' memory."""
    supervision: Supervision = field(default_factory=Supervision)
    """How long it backs off between failed starts."""
    show: Show | None = None
    """Who looks on; None for nobody."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an actor says when it is asked for a Rollout."""

    rollout: Rollout | None
    """None where none was ready in time."""
    reports: Sequence[SamplerReport]
    """What happened since the answer before."""
    slots: Sequence[SlotReport]
    """How its slots fare."""
    rollouts_dropped: int
    """Over the actor's life."""
    rollouts_waiting: int
    stuck_s: float
    """How long the playing thread has been inside the slots, in seconds."""
    is_made: bool
    """Whether its slots are there."""
    failure: str = ""
    """Why it plays no more; it must be replaced."""
    fatal: RaygymError | None = None
    """The same as an error, where another try would not help."""
    error: str = ""
    """Why its slots could not be made until now."""
    start_failures: int = 0
    """How often in a row they could not."""
    pid: int = 0
    node: str = ""
    """Id of the Ray node; empty outside Ray."""
    frames: FramesAddress | None = None
    """Where the Rollout's observations are, [T + 1, B, ...] with the last; empty in it then."""
    probe: FramesAddress | None = None
    """A block to try, where the actor is on the service's node."""
