"""The films of a run: a directory with a film, its contact sheet and its record each.

``NAME.mp4``, ``NAME.png`` and ``NAME.json`` belong together; the record is written last, and a film
without one was left behind by a writer that died.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from raygym.films.pictures import Still, Stills, contact_sheet
from raygym.films.writer import PART, duration_s, frames, rescue

log = logging.getLogger(__name__)

_TMP = ".tmp"
_MOST_RESCUED_BYTES = 16 << 20
"""A larger film that its writer left behind is not looked into: no contact sheet, no steps."""


@dataclass(frozen=True, kw_only=True)
class FilmRecord:
    """What is known of a film."""

    film: str
    """Name of the MP4 file."""
    sheet: str
    """Name of the contact sheet; empty for none."""
    env: str
    run: str
    slot: int
    episode: int | None
    """Number of the slot's episode, from 0; None where nobody heard of its end."""
    score: float | None
    """Sum of the rewards; None as above."""
    steps: int
    """Steps that the film shows."""
    duration_s: float
    """How long the film is, in the time of the environment."""
    outcome: str
    """As the episode's; empty where nobody heard of its end."""
    reason: str
    """What failed; empty where nothing did."""
    cut: str
    """Why the film ends before the episode would have: the outcome of a failure, ``run_ended``,
    ``end_not_seen`` or ``actor_lost``; empty for a whole episode."""
    started_at: str
    """UTC, ISO 8601."""
    size_px: tuple[int, int]
    """Width and height of the film."""
    size_bytes: int
    shows: str
    """``picture``, or ``vector`` for the traces of one."""

    @property
    def name(self) -> str:
        """What the names of its files begin with."""
        return Path(self.film).stem


def write_record(directory: Path, record: FilmRecord) -> None:
    """Writes a film's record, whole or not at all."""
    path = directory / f"{record.name}.json"
    partial = _partial(path)
    partial.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def read_films(directory: Path) -> list[FilmRecord]:
    """Returns the films of a directory, oldest first; records that cannot be read are left out."""
    films = []
    for path in directory.glob("*.json"):
        try:
            films.append(_parse(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("film.unreadable path=%s error=%s", path, error)
    return sorted(
        (film for film in films if (directory / film.film).is_file()),
        key=lambda film: (film.started_at, film.name),
    )


def prune(directory: Path, *, slot: int, keep: int) -> None:
    """Removes the films of a slot but the newest, and the best whole episode.

    Args:
        directory: Where they are.
        slot: Whose.
        keep: How many newest ones stay, beside the best.
    """
    films = [film for film in read_films(directory) if film.slot == slot]
    best = best_film(films)
    for film in films[:-keep]:
        if film is not best:
            for suffix in (".json", ".png", ".mp4"):
                (directory / (film.name + suffix)).unlink(missing_ok=True)


def best_film(films: Sequence[FilmRecord]) -> FilmRecord | None:
    """Returns the whole episode with the highest score, the latest of several; None for none."""
    whole = [film for film in films if not film.cut and film.score is not None]
    return max(whole, key=lambda film: (film.score or 0.0, film.started_at), default=None)


def free_name(directory: Path, name: str) -> str:
    """Returns a name that no film there has: ``name``, or with a number behind it."""
    taken, number = name, 1
    while any((directory / (taken + suffix)).exists() for suffix in (".mp4", ".json", PART)):
        number += 1
        taken = f"{name}-{number}"
    return taken


def rescue_films(
    directory: Path,
    *,
    slot: int | None = None,
    cut: str = "actor_lost",
    reason: str = "whoever played it ended without a word",
) -> list[FilmRecord]:
    """Makes films of what writers that died left behind.

    Nobody may be writing there for these slots.

    Args:
        directory: Where they are.
        slot: Whose; None for all.
        cut: Why they are no whole episodes.
        reason: The same, for a person.
    """
    names = f"slot-{'*' if slot is None else slot}-*"
    for partial in directory.glob(names + _TMP):
        partial.unlink(missing_ok=True)
    left = [one for one in directory.glob(f"{names}.mp4") if not one.with_suffix(".json").exists()]
    found = [_rescue(directory, one, cut, reason) for one in sorted(left)]
    return [record for record in found if record is not None]


def _rescue(directory: Path, left: Path, cut: str, reason: str) -> FilmRecord | None:
    name = free_name_of_cut(directory, left.name.removesuffix(PART).removesuffix(".mp4"), cut)
    film = directory / f"{name}.mp4"
    comment = rescue(left, film)
    if comment is None:
        return None
    known: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        known = dict(json.loads(comment))
    stills, count, size_px = Stills(), 0, (0, 0)
    if film.stat().st_size <= _MOST_RESCUED_BYTES:
        for at_s, picture in frames(film):
            stills.add(Still(count, at_s, picture))
            size_px = picture.shape[1], picture.shape[0]
            count += 1
    record = FilmRecord(
        film=film.name,
        sheet=f"{name}.png" if count else "",
        env=str(known.get("env", "")),
        run=str(known.get("run", "")),
        slot=int(known.get("slot", 0)),
        episode=None,
        score=None,
        steps=max(0, count - 1),
        duration_s=round(duration_s(film), 3),
        outcome="",
        reason=reason,
        cut=cut,
        started_at=str(known.get("started_at", "")),
        size_px=size_px,
        size_bytes=film.stat().st_size,
        shows=str(known.get("shows", "picture")),
    )
    if count:
        write_sheet(directory, record, stills)
    write_record(directory, record)
    log.warning("film.rescued film=%s", film)
    return record


def free_name_of_cut(directory: Path, name: str, cut: str) -> str:
    """Returns a name that no film there has, and that says why the film was cut."""
    return free_name(directory, f"{name}-cut-{cut}" if cut else name)


def write_sheet(directory: Path, record: FilmRecord, stills: Stills) -> None:
    """Draws a film's contact sheet, whole or not at all."""
    episode = "an episode" if record.episode is None else f"episode {record.episode}"
    score = "" if record.score is None else f"score {record.score:g}   "
    warning = ""
    if record.cut:
        warning = f"CUT ({record.cut})" + (f": {record.reason}" if record.reason else "")
    sheet = contact_sheet(
        stills.chosen(),
        title=f"{record.env}   slot {record.slot}   {episode}",
        subtitle=f"{score}{record.steps} steps   {record.duration_s:.1f} s   "
        f"{record.outcome or 'end not seen'}   {record.started_at}",
        warning=warning,
    )
    path = directory / record.sheet
    partial = _partial(path)
    sheet.save(partial, format="PNG", optimize=True)
    partial.replace(path)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}{_TMP}")


def _parse(content: dict[str, Any]) -> FilmRecord:
    known = {field.name: content[field.name] for field in fields(FilmRecord)}
    width, height = known["size_px"]
    return FilmRecord(**{**known, "size_px": (int(width), int(height))})
