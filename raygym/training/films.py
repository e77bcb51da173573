"""Has the actors of a run film their episodes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from raygym.films.episodes import EpisodeFilms, FilmSettings
from raygym.films.shelf import rescue_films
from raygym.service.spectators import Show, Spectator
from raygym.training.config import FilmFlags
from raygym.training.plan import Plan

VIDEOS = "videos"
"""Directory of the films within a logdir."""


def film_openers(
    flags: FilmFlags, plan: Plan, logdir: Path
) -> list[Callable[[Show, str], Spectator]]:
    """Returns what a Show opens for films: one spectator an actor, or none.

    Args:
        flags: Which episodes.
        plan: The environment.
        logdir: Of the run; films go to its ``videos``, on the machine where the slot is played.
    """
    if not flags.is_on:
        return []
    is_grey = plan.observation is not None and plan.observation.is_grey
    settings = FilmSettings(
        directory=logdir.resolve() / VIDEOS,
        fps=steps_per_s(plan),
        channels=1 if is_grey else 3,
        slots=flags.slots,
        every_episodes=flags.every_episodes,
        every_minutes=flags.every_minutes,
        least_gap_s=flags.least_gap_s,
        kept=flags.kept,
    )
    return [functools.partial(EpisodeFilms.open, settings)]


def complete_films(logdir: Path) -> None:
    """Completes the films that actors had no time for when the run ended; none may be left."""
    if (logdir / VIDEOS).is_dir():
        rescue_films(logdir / VIDEOS, cut="run_ended", reason="")


def steps_per_s(plan: Plan) -> float:
    """Returns the agent's steps in a second of the environment's own time."""
    if plan.frame_skip is not None:
        return plan.spec.fps / plan.frame_skip
    return plan.fps or plan.spec.fps
