"""Every metric of raygym: name, kind, unit, tags and meaning, as ``docs/metrics.md`` has them.

Ray puts ``ray_`` before a name and ``_total`` behind a counter's, and adds the tags
``NodeAddress``, ``SessionName``, ``Version``, ``Component`` and ``WorkerId``. A timing is three
counters, as the sums of Ray's histograms are made of the middles of their buckets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

OF_RUN = ("run", "env", "runtime")
OF_ACTOR = (*OF_RUN, "node")
OF_SLOT = (*OF_ACTOR, "slot")

STEP_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 1.0, 5.0)
LAG_BOUNDS_S = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0)
CLAIM_BOUNDS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0)

STATES = ("starting", "running", "retrying", "quarantined", "failed", "stopped", "closed")
"""Of a slot; see ``SamplerReport.state``."""
RELAUNCH_CAUSES = ("infra_failure", "preempted", "worn", "start_failed", "remade")
"""What may have become of a Remote that is replaced: it was lost, taken away, worn, never ready,
or its slot's environment was made anew."""


@dataclass(frozen=True)
class Spec:
    """One metric."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    tags: tuple[str, ...]
    meaning: str

    @property
    def exported(self) -> str:
        """Its name in Prometheus."""
        return f"ray_{self.name}" + ("_total" if self.kind == "counter" else "")


@dataclass(frozen=True)
class Timing:
    """Three counters: how many, their sum, and how many took at most ``le`` seconds.

    The first two give an exact mean; the third gives quantiles, through ``histogram_quantile``.
    """

    name: str
    tags: tuple[str, ...]
    """Of the number and the sum."""
    bucket_tags: tuple[str, ...]
    """Of the buckets, besides ``le``; fewer, as each tag counts once a bound."""
    bounds_s: tuple[float, ...]
    """Upper ends of the buckets, in seconds, ascending; above the last there is one more."""
    meaning: str

    @property
    def sum_name(self) -> str:
        """Name of the sum."""
        return f"{self.name}_sum_seconds"

    @property
    def count_name(self) -> str:
        """Name of the number."""
        return f"{self.name}_count"

    @property
    def bucket_name(self) -> str:
        """Name of the buckets."""
        return f"{self.name}_bucket"

    def specs(self) -> Iterator[Spec]:
        """Yields the three counters."""
        yield Spec(self.sum_name, "counter", "s", self.tags, f"{self.meaning}: their sum")
        yield Spec(self.count_name, "counter", "1", self.tags, f"{self.meaning}: how many")
        yield Spec(
            self.bucket_name,
            "counter",
            "1",
            (*self.bucket_tags, "le"),
            f"{self.meaning}: how many took at most `le` seconds",
        )


STEP_LATENCY = Timing(
    "raygym_step_latency",
    OF_ACTOR,
    OF_ACTOR,
    STEP_BOUNDS_S,
    "From an action to its observation, as an actor sees it",
)
LAGS = {
    "reaction_time_ms": Timing(
        "raygym_reaction_time",
        OF_SLOT,
        OF_ACTOR,
        LAG_BOUNDS_S,
        "From a change on the screen to the answer to it, in real time",
    ),
    "observation_lag_ms": Timing(
        "raygym_observation_lag",
        OF_SLOT,
        OF_ACTOR,
        LAG_BOUNDS_S,
        "From painting at the far end to the hand-over of the frame, in real time",
    ),
    "action_lag_ms": Timing(
        "raygym_action_lag",
        OF_SLOT,
        OF_ACTOR,
        LAG_BOUNDS_S,
        "From sending a key event to its arrival at the program, in real time",
    ),
    "reward_lag_ms": Timing(
        "raygym_reward_lag",
        OF_SLOT,
        OF_ACTOR,
        LAG_BOUNDS_S,
        "From a reward at the far end to its hand-over, in real time",
    ),
}
"""By name of ``TIMES_MS``."""
CLAIM_LATENCY = Timing(
    "raygym_claim_latency",
    OF_SLOT,
    OF_ACTOR,
    CLAIM_BOUNDS_S,
    "From a slot's asking for a remote to the first answer of that one",
)
GRANT_LATENCY = Timing(
    "raygym_grant_latency",
    ("runtime",),
    ("runtime",),
    CLAIM_BOUNDS_S,
    "How long the registry takes to grant a lease",
)
TIMINGS = (STEP_LATENCY, *LAGS.values(), CLAIM_LATENCY, GRANT_LATENCY)

_OF_PLAYERS = (
    Spec("raygym_slots", "gauge", "1", (*OF_ACTOR, "state"), "Slots of an actor in each state"),
    Spec("raygym_env_steps", "counter", "1", OF_SLOT, "Steps of the environment"),
    Spec("raygym_episodes", "counter", "1", (*OF_SLOT, "outcome"), "Episodes that ended, by how"),
    Spec("raygym_score_gained", "counter", "1", OF_SLOT, "Sum of the scores above 0 of `ok` ones"),
    Spec(
        "raygym_score_lost", "counter", "1", OF_SLOT, "Sum of the scores below 0 of them, as above"
    ),
    Spec("raygym_last_score", "gauge", "1", OF_SLOT, "Score of the last episode that was `ok`"),
    Spec("raygym_frames", "counter", "1", OF_ACTOR, "Screen updates that came, in real time"),
    Spec("raygym_received", "counter", "B", OF_ACTOR, "Their bytes on the wire"),
    Spec("raygym_pixels", "counter", "1", OF_ACTOR, "Their pixels"),
    Spec("raygym_decode_seconds", "counter", "s", OF_ACTOR, "Time that decoding them took"),
    Spec(
        "raygym_relaunches",
        "counter",
        "1",
        (*OF_ACTOR, "cause"),
        "Remotes that replaced another, by what became of that one",
    ),
    Spec("raygym_start_failures", "counter", "1", OF_SLOT, "Starts that failed"),
    Spec(
        "raygym_fabricated_zeros",
        "counter",
        "1",
        OF_ACTOR,
        "Failed steps that went to a learner as if they were real; always 0",
    ),
)
_OF_RUNS = (
    Spec("raygym_learner_updates", "counter", "1", OF_RUN, "Updates of the weights"),
    Spec(
        "raygym_weights_lag_sum",
        "counter",
        "1",
        OF_RUN,
        "By how many updates the weights that chose were older than those that learned (`a3c` and "
        "`batched`): the sum",
    ),
    Spec("raygym_weights_lag_count", "counter", "1", OF_RUN, "The same: of how many updates"),
    Spec("raygym_slots_cut_off", "counter", "1", OF_RUN, "Slots whose actor ended by itself"),
)
_OF_LEASES = (
    Spec(
        "raygym_leases",
        "gauge",
        "1",
        ("runtime", "node", "state"),
        "Leases in the registry: `making`, `held`, `warm` for a client, or `spare`",
    ),
    Spec(
        "raygym_lease_grants",
        "counter",
        "1",
        ("runtime", "node", "how"),
        "Leases that were granted: of a `new` remote, of one that was there (`again`)",
    ),
    Spec(
        "raygym_lease_refusals",
        "counter",
        "1",
        ("runtime", "why"),
        "Grants that were refused, by the error",
    ),
    Spec(
        "raygym_leases_expired",
        "counter",
        "1",
        ("runtime", "node"),
        "Leases that nobody renewed in time",
    ),
    Spec("raygym_containers", "gauge", "1", ("node",), "Containers of remotes on a node"),
    Spec(
        "raygym_orphans",
        "gauge",
        "1",
        ("node",),
        "Containers and directories that no lease names any more, and that are still there",
    ),
    Spec("raygym_reaped", "counter", "1", ("node",), "Such ones that the keeper removed"),
    Spec("raygym_reap_failures", "counter", "1", ("node",), "Looks of the keeper that failed"),
)

SPECS = {
    spec.name: spec
    for spec in (
        *_OF_PLAYERS,
        *_OF_RUNS,
        *_OF_LEASES,
        *(spec for timing in TIMINGS for spec in timing.specs()),
    )
}
"""Every metric, by its name."""
