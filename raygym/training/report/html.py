"""The small parts of the report's HTML: texts, numbers, tables, pictures."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

NOTHING = '<span class="none">–</span>'
"""Stands where a value is not known."""
_THIN = "\u202f"
_WEBP_QUALITY = 85


def text(value: Any) -> str:
    """Returns anything as text for a page; a dash for None."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    return html.escape(str(value))


def number(value: float | int | None, *, digits: int = 4, unit: str = "") -> str:
    """Returns a number with as many significant digits, groups of thousands and its unit.

    Args:
        value: None, and what is not finite, give a dash.
        digits: Of a number that is no integer; none before the point are lost.
        unit: Stands behind it.
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if isinstance(value, int):
        shown = f"{value:,}"
    else:
        whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
        decimals = max(0, digits - whole)
        if value and abs(value) < 1:
            decimals = min(12, digits - 1 - math.floor(math.log10(abs(value))))
        shown = f"{value:,.{decimals}f}"
        if "." in shown:
            shown = shown.rstrip("0").rstrip(".")
    shown = shown.replace(",", _THIN).replace("-", "−")
    return f"{shown}{_THIN}{html.escape(unit)}" if unit else shown


def percent(share: float | None) -> str:
    """Returns a share in percent."""
    return NOTHING if share is None else number(100 * share, digits=3, unit="%")


def moment(at: str | None) -> str:
    """Returns a time of a record as a person reads it, in UTC."""
    if not at:
        return NOTHING
    parsed = datetime.fromisoformat(at.replace("Z", "+00:00"))
    return f'<time datetime="{html.escape(at)}">{parsed:%Y-%m-%d %H:%M:%S} UTC</time>'


def duration(minutes: float | None) -> str:
    """Returns a duration in the unit that suits it."""
    if minutes is None:
        return NOTHING
    if minutes < 2:
        return number(60 * minutes, digits=3, unit="s")
    is_long = minutes >= 180
    length, unit = (minutes / 60, "h") if is_long else (minutes, "min")
    return number(length, digits=3, unit=unit)


def facts(rows: Iterable[tuple[str, str]], *, caption: str = "") -> str:
    """Returns a table of names and values.

    Args:
        rows: A name, as text, and its value, as HTML.
        caption: Above it, as HTML.
    """
    body = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{value}</td></tr>' for name, value in rows
    )
    above = f"<caption>{caption}</caption>" if caption else ""
    return f'<table class="facts">{above}<tbody>{body}</tbody></table>'


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numeric: Sequence[int] = (),
    caption: str = "",
) -> str:
    """Returns a table.

    Args:
        heads: Texts of the columns' heads.
        rows: Cells, as HTML.
        numeric: Numbers of the columns that are aligned right.
        caption: Above it, as HTML.
    """

    def kind(column: int) -> str:
        return ' class="number"' if column in numeric else ""

    head = "".join(
        f'<th scope="col"{kind(n)}>{html.escape(name)}</th>' for n, name in enumerate(heads)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{kind(n)}>{cell}</td>" for n, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    above = f"<caption>{caption}</caption>" if caption else ""
    return (
        f'<div class="wide"><table class="rows">{above}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def settings(values: Mapping[str, Any], *, prefix: str = "") -> list[tuple[str, str]]:
    """Returns nested settings as rows for ``facts``, with dots in their names."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += settings(value, prefix=f"{prefix}{name}.")
        elif isinstance(value, list):
            rows.append((prefix + name, text(", ".join(str(one) for one in value))))
        else:
            rows.append((prefix + name, _setting(value)))
    return rows


def _setting(value: Any) -> str:
    """Returns a setting digit by digit as it was given."""
    if isinstance(value, float):
        return html.escape(f"{value:g}" if float(f"{value:g}") == value else repr(value))
    return text(value)


def picture(path: Path) -> str:
    """Returns a picture file as a data URI of WebP."""
    encoded = io.BytesIO()
    with Image.open(path) as image:
        image.save(encoded, format="WEBP", quality=_WEBP_QUALITY, method=4)
    return _data_uri("image/webp", encoded.getvalue())


def film(path: Path) -> str:
    """Returns an MP4 file as a data URI."""
    return _data_uri("video/mp4", path.read_bytes())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
