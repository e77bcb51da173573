"""What came over the reward channel since the last look, episode by episode.

The rules are those of Universe's client: rewards of one episode between two looks are
summed, a look never crosses an episode's end, and while the client waits for the answer to
its reset nothing counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_ADDED = "stats."
_REPLACED = "stats.gauges"


@dataclass(frozen=True)
class RewardBatch:
    """What one look found."""

    reward: float
    """Sum of the rewards."""
    done: bool
    """The episode ended."""
    info: dict[str, Any]
    """All infos, merged: ``stats.*`` add up, except ``stats.gauges*``; the rest replaces."""
    count: int
    """How many reward messages it sums."""
    episode_id: str | None
    """Which episode the reward belongs to; None while a reset is under way."""
    texts: list[Any]
    """Texts, in order."""
    newest_sent_at_s: float | None
    """When the newest of the rewards was sent, in unix seconds of the remote's clock."""


@dataclass
class _Episode:
    reward: float = 0.0
    count: int = 0
    is_done: bool = False
    info: dict[str, Any] = field(default_factory=dict)
    texts: list[Any] = field(default_factory=list)
    newest_sent_at_s: float | None = None


class RewardBuffer:
    """Collects rewards, infos and texts until they are popped; masked until the first reset."""

    def __init__(self) -> None:
        self._episodes: dict[int, _Episode] = {}
        self._current: int | None = None
        self._finished = -1

    def mask(self) -> None:
        """Drops everything until ``unmask``: a reset was asked for."""
        self._current = None

    def unmask(self, episode: int) -> None:
        """Starts counting with ``episode``; what belongs to earlier ones is dropped."""
        self._episodes = {n: e for n, e in self._episodes.items() if n >= episode}
        self._current = episode

    def reward(
        self,
        episode: int,
        reward: float,
        *,
        is_done: bool,
        info: Mapping[str, Any],
        sent_at_s: float,
    ) -> None:
        """Adds a reward message."""
        self._enter(episode)
        bucket = self._bucket(episode)
        bucket.reward += reward
        bucket.count += 1
        bucket.is_done = bucket.is_done or is_done
        bucket.newest_sent_at_s = sent_at_s
        _merge(bucket.info, info)

    def text(self, episode: int, text: Any) -> None:
        """Adds a text."""
        self._enter(episode)
        self._bucket(episode).texts.append(text)

    def described(self, episode: int) -> None:
        """Notes that the remote is in ``episode``."""
        self._enter(episode)
        if episode > self._finished:
            self._bucket(episode)

    def pop(self) -> RewardBatch:
        """Returns what is there of the current episode; after its end, goes on to the newest."""
        if self._current is None:
            self._episodes = dict(sorted(self._episodes.items())[-1:])
            return RewardBatch(0.0, False, {}, 0, None, [], None)
        if self._current <= self._finished:
            self._current = max(self._episodes, default=self._current)
        episode = self._current
        bucket = self._episodes.pop(episode, None) or _Episode()
        texts = bucket.texts
        if bucket.is_done:
            self._finished = episode
            newest = max(self._episodes, default=episode)
            self._episodes = {n: e for n, e in self._episodes.items() if n == newest}
            self._current = newest
            if newest > episode:
                bucket.info["env_status.complete.episode_id"] = str(episode)
                texts, self._episodes[newest].texts = self._episodes[newest].texts, []
        return RewardBatch(
            bucket.reward,
            bucket.is_done,
            bucket.info,
            bucket.count,
            str(episode),
            texts,
            bucket.newest_sent_at_s,
        )

    def _bucket(self, episode: int) -> _Episode:
        return self._episodes.setdefault(episode, _Episode())

    def _enter(self, episode: int) -> None:
        """A message of a newer episode ends those before it, had they said so or not."""
        for earlier, bucket in self._episodes.items():
            if self._finished < earlier < episode and not bucket.is_done:
                bucket.is_done = True
                bucket.info["env_status.artificial.done"] = True


def _merge(into: dict[str, Any], info: Mapping[str, Any]) -> None:
    for key, value in info.items():
        is_sum = key.startswith(_ADDED) and not key.startswith(_REPLACED)
        if is_sum and isinstance(value, int | float) and isinstance(into.get(key), int | float):
            into[key] += value
        else:
            into[key] = value
