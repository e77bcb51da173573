"""Keeps what a Recorder hands over, in Ray's place."""

from __future__ import annotations

from collections.abc import Mapping

from raygym.service.metrics.recorder import Recorder
from raygym.service.metrics.specs import Spec

TAGS = {"run": "r", "env": "test.Env-v0", "runtime": "test", "node": "n1"}


class WrittenMetrics:
    """Counters that add up and gauges that stay, by metric and tags; time is set by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self.num_writes = 0

    def recorder(self, tags: Mapping[str, str] = TAGS) -> Recorder:
        """Returns a Recorder that writes here."""
        return Recorder(tags, instrument=self._instrument, clock=lambda: self.now_s)

    def value(self, name: str, **tags: str) -> float:
        """Returns the value of a metric, summed over all tags that are not named.

        Raises:
            KeyError: No series of that name has such tags.
        """
        found = [
            value
            for (one, its), value in self.values.items()
            if one == name and tags.items() <= dict(its).items()
        ]
        if not found:
            raise KeyError(f"{name} {tags}: nothing was written")
        return sum(found)

    def tags(self, name: str) -> set[tuple[str, ...]]:
        """Returns the names of the tags that a metric was written with."""
        return {tuple(tag for tag, _ in its) for one, its in self.values if one == name}

    def names(self) -> set[str]:
        """Returns the metrics that were written."""
        return {name for name, _ in self.values}

    def _instrument(self, spec: Spec) -> _Written:
        return _Written(self, spec)


class _Written:
    def __init__(self, kept: WrittenMetrics, spec: Spec) -> None:
        self._kept = kept
        self._spec = spec

    def write(self, value: float, tags: Mapping[str, str]) -> None:
        assert set(tags) == set(self._spec.tags), f"{self._spec.name}: {tags}"
        key = (self._spec.name, tuple((tag, tags[tag]) for tag in self._spec.tags))
        before = self._kept.values.get(key, 0.0) if self._spec.kind == "counter" else 0.0
        self._kept.values[key] = before + value
        self._kept.num_writes += 1
