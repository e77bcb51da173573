"""What a person sees while it trains: a live table, or plain lines where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from raygym.training.accounts import Accounts, percentiles

TABLE_EVERY_S = 0.5
LINE_EVERY_S = 10.0


class Display:
    """Shows the accounts of a run.

    Args:
        accounts: What to show.
        console: Where; the table is live only on a terminal.
        now_s: The time, in seconds of a steady clock.
    """

    def __init__(self, accounts: Accounts, console: Console, *, now_s: float) -> None:
        self._accounts = accounts
        self._console = console
        self._due_s = now_s + (0.0 if console.is_terminal else LINE_EVERY_S)
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(console=console, auto_refresh=False)
            self._live.start()

    def say(self, text: str) -> None:
        """Prints a line of its own, above the table."""
        self._console.print(Text(text), soft_wrap=True)

    def tick(self, now_s: float) -> None:
        """Brings the table up to date, or prints a line, if it is due."""
        if now_s < self._due_s:
            return
        if self._live is not None:
            self._due_s = now_s + TABLE_EVERY_S
            self._live.update(render(self._accounts, now_s), refresh=True)
        else:
            self._due_s = now_s + LINE_EVERY_S
            self.say(line(self._accounts, now_s))

    def close(self, now_s: float) -> None:
        """Shows the last state and leaves the terminal as it was; may be called twice."""
        if self._live is not None:
            self._live.update(render(self._accounts, now_s), refresh=True)
            self._live.stop()
            self._live = None


def line(accounts: Accounts, now_s: float) -> str:
    """Returns the accounts as one plain line."""
    healthy = sum(slot.is_healthy for slot in accounts.slots)
    times = percentiles([ms for slot in accounts.slots for ms in slot.reaction_ms])
    score = accounts.recent_score()
    return (
        f"{accounts.minutes(now_s):.1f} min  steps {accounts.env_steps}  "
        f"{accounts.steps_per_s(now_s):.1f} steps/s  episodes {accounts.episodes}  "
        f"score {_number(score)} ({_percent(accounts.share(score))} of ceiling)  "
        f"reaction {_number(times['p50'])}/{_number(times['p95'])} ms  "
        f"remotes {healthy}/{len(accounts.slots)} healthy, {_lost(accounts)} lost"
    )


def render(accounts: Accounts, now_s: float) -> Group:
    """Returns the accounts as a table, one row a worker."""
    table = Table(box=box.SIMPLE_HEAD, title=escape(accounts.spec.id), title_style="bold")
    columns: list[tuple[str, Callable[[int], str]]] = [
        ("worker", str),
        ("state", lambda n: accounts.slots[n].state),
        ("steps", lambda n: str(accounts.slots[n].steps)),
        ("episodes", lambda n: str(accounts.slots[n].episodes)),
        ("last score", lambda n: _number(accounts.slots[n].last_score)),
        ("of ceiling", lambda n: _percent(accounts.share(accounts.slots[n].last_score))),
        ("reaction ms", lambda n: _reaction(accounts, n)),
        ("lost", lambda n: str(accounts.slots[n].remotes_lost + accounts.slots[n].current_lost)),
    ]
    for name, _ in columns:
        table.add_column(name, justify="left" if name in ("worker", "state") else "right")
    for number, slot in enumerate(accounts.slots):
        style = "" if slot.is_healthy else "yellow"
        table.add_row(*(cell(number) for _, cell in columns), style=style)
    errors = [
        Text(f"worker {n}: {slot.error.splitlines()[0]}", style="yellow")
        for n, slot in enumerate(accounts.slots)
        if slot.error
    ]
    return Group(table, Text(line(accounts, now_s)), *errors)


def _reaction(accounts: Accounts, number: int) -> str:
    times = percentiles(accounts.slots[number].reaction_ms)
    return f"{_number(times['p50'])} / {_number(times['p95'])}"


def _lost(accounts: Accounts) -> int:
    return sum(slot.remotes_lost + slot.current_lost for slot in accounts.slots)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
