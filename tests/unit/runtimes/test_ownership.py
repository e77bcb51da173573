from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Iterator

import pytest

from raygym.runtimes.ownership import READY_FILE, Lifeline, write_ready


def test_a_remote_says_where_it_listens_and_who_it_is(tmp_path):
    write_ready(tmp_path, {"vnc": "unix:/a"})
    assert json.loads((tmp_path / READY_FILE).read_text()) == {
        "vnc": "unix:/a",
        "pid": os.getpid(),
        "hostname": socket.gethostname(),
    }
    assert [path.name for path in tmp_path.iterdir()] == [READY_FILE]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        with contextlib.suppress(OSError):
            os.close(fd)


def test_a_lifeline_tells_once_when_its_other_end_is_closed(pipe):
    async def watch() -> None:
        gone = asyncio.Event()
        line = Lifeline(pipe[0], gone.set)
        os.write(pipe[1], b"x")
        await asyncio.sleep(0)
        assert not line.is_gone
        os.close(pipe[1])
        async with asyncio.timeout(5):
            await gone.wait()
        assert line.is_gone
        line.close()

    asyncio.run(watch())


def test_a_lifeline_that_was_closed_tells_nothing(pipe):
    async def watch() -> None:
        told: list[int] = []
        line = Lifeline(pipe[0], lambda: told.append(1))
        line.close()
        line.close()
        os.close(pipe[1])
        await asyncio.sleep(0)
        assert not told

    asyncio.run(watch())


def test_without_a_pipe_nothing_is_watched():
    line = Lifeline(None, lambda: None)
    assert not line.is_gone
    line.close()
