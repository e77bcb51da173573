"""The films of a run's report, as HTML."""

from __future__ import annotations

import html
from pathlib import Path

from raygym.films.shelf import FilmRecord, best_film
from raygym.training.films import VIDEOS
from raygym.training.record_reading import RunData
from raygym.training.report import html as report_html
from raygym.training.report.html import moment, number

MOST_EMBEDDED_BYTES = 8 << 20
"""Films beyond this sum are linked only."""


def films_section(run: RunData) -> str:
    """Contact sheets and films, the best first, then the newest."""
    if not run.films:
        return "<h2>Films</h2><p>No episode was filmed.</p>"
    best = best_film(run.films)
    ordered = ([best] if best else []) + [f for f in reversed(run.films) if f is not best]
    left = MOST_EMBEDDED_BYTES
    blocks = []
    for film in ordered:
        is_embedded = film.size_bytes <= left
        left -= film.size_bytes if is_embedded else 0
        blocks.append(
            _film(run.logdir / VIDEOS, film, is_best=film is best, is_embedded=is_embedded)
        )
    said = (
        "Each sheet shows up to twelve moments of an episode, evenly spaced, as the agent saw "
        "them; small pictures are enlarged without smoothing."
    )
    return f"<h2>Films</h2><p>{said}</p>{''.join(blocks)}"


def _film(directory: Path, film: FilmRecord, *, is_best: bool, is_embedded: bool) -> str:
    link = f"{VIDEOS}/{film.film}"
    path, sheet = directory / film.film, directory / film.sheet
    shown = ""
    if is_embedded:
        shown = (
            f'<video controls preload="metadata" src="{report_html.film(path)}" '
            f'width="{film.size_px[0]}" height="{film.size_px[1]}"></video>'
        )
    if film.sheet and sheet.is_file():
        label = html.escape(f"Contact sheet of {film.film}", quote=True)
        shown += f'<img src="{report_html.picture(sheet)}" alt="{label}">'
    episode = "An episode" if film.episode is None else f"Episode {number(film.episode)}"
    score = "" if film.score is None else f", score {number(film.score)}"
    cut = f" <b>Cut: {html.escape(film.cut)}</b>" if film.cut else ""
    reason = f" ({html.escape(film.reason)})." if film.cut and film.reason else ("." if cut else "")
    traces = " It shows the numbers that the agent sees." if film.shows == "vector" else ""
    caption = (
        f"<b>{'Best whole episode filmed. ' if is_best else ''}{episode}</b> of slot "
        f"{film.slot}{score}, "
        f"{number(film.steps)} steps, {number(film.duration_s, digits=3, unit='s')}, begun "
        f"{moment(film.started_at)}.{cut}{reason}{traces} "
        f'<a href="{html.escape(link)}">{html.escape(film.film)}</a>, '
        f"{number(film.size_bytes / 1e6, digits=2, unit='MB')}."
    )
    still = "" if is_embedded else " still"
    return f'<figure class="film{still}">{shown}<figcaption>{caption}</figcaption></figure>'
