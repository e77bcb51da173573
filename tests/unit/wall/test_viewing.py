"""A page on the way to a screen."""

from __future__ import annotations

import asyncio

import pytest

from raygym.wall import viewing


class Line:
    """Counts who reads."""

    reads = 0

    async def read(self) -> bytes:
        self.reads += 1
        return b""


def test_a_page_that_never_greets_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(viewing, "_GREETING_S", 0.05)
    line = Line()

    async def wait() -> None:
        async with asyncio.timeout(10.0):
            await viewing._down(line, None, asyncio.Event())

    asyncio.run(wait())
    assert line.reads == 0
