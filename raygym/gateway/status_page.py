"""What a gateway does, as one page for a person: no scripts, light and dark."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from html import escape

from raygym.gateway.allocator import Allocation
from raygym.gateway.status import GatewayStatus
from raygym.version import VERSION

_MAX_ROWS = 500
_RELOAD_S = 5

_STYLE = """
:root {
  color-scheme: light dark;
  --ground: light-dark(#f5f4f1, #0f1113); --sheet: light-dark(#fffefc, #191c1f);
  --line: light-dark(#dfdcd5, #2a2e32); --ink: light-dark(#1c1e21, #e9e7e3);
  --soft: light-dark(#5f646b, #a0a5ab); --accent: light-dark(#0b6e60, #5ccab6);
  --well: light-dark(#e4e1da, #2b3034); --warn: light-dark(#8a5a00, #f0bf5a);
  font: 15px/1.45 ui-sans-serif, system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.5rem 3rem; max-width: 76rem; background: var(--ground);
  color: var(--ink); }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 1rem; }
h1 { margin: 0; font-size: 1.35rem; font-weight: 650; }
h2 { margin: 2rem 0 .6rem; font-size: 1.02rem; font-weight: 650; }
p { margin: 0; }
.soft, header p, th { color: var(--soft); }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0 0; }
dl > div { padding: .7rem .9rem; border: 1px solid var(--line); border-radius: 10px;
  background: var(--sheet); }
dt { color: var(--soft); font-size: .86rem; }
dd { margin: .1rem 0 0; font-size: 1.45rem; font-weight: 600; }
dd small { color: var(--soft); font-size: .86rem; font-weight: 400; }
progress { display: block; width: 100%; height: .4rem; margin-top: .45rem; border: 0;
  border-radius: 99px; overflow: hidden; background: var(--well); appearance: none; }
progress::-webkit-progress-bar { background: var(--well); }
progress::-webkit-progress-value { background: var(--accent); }
progress::-moz-progress-bar { background: var(--accent); }
.sheet { overflow-x: auto; border: 1px solid var(--line); border-radius: 10px;
  background: var(--sheet); }
.sheet p { padding: .7rem .9rem; }
section:last-of-type .sheet { max-width: 24rem; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .45rem .9rem; text-align: left; white-space: nowrap; }
th { font-size: .86rem; font-weight: 500; border-bottom: 1px solid var(--line); }
tr + tr td { border-top: 1px solid var(--line); }
.warn { color: var(--warn); font-weight: 550; }
footer { margin-top: 2rem; }
"""

STYLE_HASH = "sha256-" + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
"""What a Content-Security-Policy names to let the page have its style, and no other."""

_RAY_ID = re.compile("[0-9a-f]{56}")

_Row = Sequence[str]


def status_page(
    status: GatewayStatus, allocations: Sequence[Allocation], *, now_s: float, up_s: float
) -> str:
    """Returns the page; it loads itself anew every few seconds.

    Args:
        status: What the gateway does.
        allocations: Those over HTTP.
        now_s: The time, by the clock of the allocations.
        up_s: How long the gateway has run.
    """
    body = [
        "<header><h1>raygym gateway</h1>",
        f"<p>raygym {VERSION}, up {_duration(up_s)}</p></header>",
        _figures(status),
        "<main>",
        _leases(status),
        _queue(status),
        _allocations(allocations, now_s),
        _counts(status),
        "</main>",
        '<footer class="soft"><a href="/metrics">metrics</a> · <a href="/healthz">health</a> · '
        f"this page loads itself anew every {_RELOAD_S} s</footer>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{_RELOAD_S}">'
        f"<title>{status.used}/{status.slots} slots - raygym gateway</title>"
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>"
    )


def _figures(status: GatewayStatus) -> str:
    waiting = len(status.waiting)
    longest_s = max((place.waited_s for place in status.waiting), default=0.0)
    is_full = status.used >= status.slots
    bar = (
        f'<progress value="{status.used}" max="{max(status.slots, 1)}" '
        'aria-label="slots in use"></progress>'
    )
    of_slots = f"of {status.slots}" + (', <span class="warn">full</span>' if is_full else "")
    queue = f"longest {_duration(longest_s)}" if waiting else "nobody"
    trips = status.streams
    mean = f"{1000 * trips.round_trip_s / trips.round_trips:.2f} ms" if trips.round_trips else "-"
    tiles = [
        ("Slots in use", f"{status.used} <small>{of_slots}</small>{bar}"),
        ("Waiting", f"{waiting} <small>{queue}</small>"),
        ("Starting", f"{status.starting}"),
        ("Kept warm", f"{status.idle}"),
        ("gRPC streams", f"{trips.open} <small>of {trips.opened} so far</small>"),
        ("Mean round trip", mean),
    ]
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles)
    return f"<dl>{rows}</dl>"


def _leases(status: GatewayStatus) -> str:
    rows = [
        (
            lease.client_id,
            lease.tenant,
            lease.env_id,
            lease.mode,
            lease.remote_id,
            _short(lease.node),
            _duration(lease.age_s),
        )
        for lease in status.leases
    ]
    names = ("Client", "Tenant", "Environment", "Mode", "Remote", "Node", "Held for")
    return _table("Leases", names, rows, "Nobody holds a remote.")


def _queue(status: GatewayStatus) -> str:
    rows = [
        (
            str(place.position),
            place.client_id,
            place.tenant,
            place.what,
            "its quota" if place.is_over_quota else "a slot",
            _duration(place.waited_s),
        )
        for place in status.waiting
    ]
    names = ("Place", "Client", "Tenant", "Environment", "Waits for", "For")
    return _table("Queue", names, rows, "Nobody waits.")


def _allocations(allocations: Sequence[Allocation], now_s: float) -> str:
    rows = [
        (
            allocation.name,
            allocation.client,
            allocation.tenant.name,
            allocation.wanted.env_id,
            allocation.status,
            ", ".join(f"{kind} {f.port}" for kind, f in allocation.forwards.items()),
            str(allocation.connections),
            _duration(now_s - allocation.renewed_s) + " ago",
        )
        for allocation in allocations
    ]
    names = (
        "Allocation", "Client", "Tenant", "Environment", "Status", "Ports", "Connections",
        "Heard of",
    )  # fmt: skip
    return _table("Allocations over HTTP", names, rows, "There is none.")


def _counts(status: GatewayStatus) -> str:
    rows = [
        ("Leases granted", str(status.granted)),
        ("Leases given back", str(status.given_back)),
        ("Remotes started", str(status.remotes_started)),
        ("Remotes reused", str(status.remotes_reused)),
        ("Remotes that did not start", str(status.remotes_failed)),
        ("Remotes lost while held", str(status.remotes_lost)),
        ("Left the queue", str(status.gone_waiting)),
        *[(f"Refused: {cause}", str(count)) for cause, count in sorted(status.refused.items())],
    ]
    return _table("Since the start", ("What", "Count"), rows, "")


def _table(title: str, names: _Row, rows: Sequence[_Row], empty: str) -> str:
    """Returns a table; every value is escaped here."""
    count = f' <span class="soft">({len(rows)})</span>' if empty and rows else ""
    heading = f"<h2>{title}{count}</h2>"
    if not rows:
        return f'<section>{heading}<div class="sheet"><p class="soft">{empty}</p></div></section>'
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows[:_MAX_ROWS])
    more = len(rows) - _MAX_ROWS
    rest = f'<p class="soft">and {more} more</p>' if more > 0 else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"
    sheet = f'<div class="sheet" tabindex="0" role="region" aria-label="{title}">{table}</div>'
    return f"<section>{heading}{sheet}</section>"


def _cells(row: Iterable[str]) -> str:
    return "".join(f"<td>{escape(value)}</td>" for value in row)


def _short(node: str) -> str:
    """Returns the start of an id of Ray's, and the name of any other node."""
    return node[:8] if _RAY_ID.fullmatch(node) else node


def _duration(seconds: float) -> str:
    """Returns a duration for a person: ``8 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"
