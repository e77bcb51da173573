import asyncio
import os

import pytest

from raygym.runtimes.browser import SANDBOX_VARIABLE, Browser


async def flags(directory):
    browser = Browser(directory, environment={}, size_px=(8, 8), on_message=print)
    return browser._flags()


@pytest.mark.parametrize(
    ("uid", "variable", "has_sandbox"),
    [(1000, None, True), (1000, "off", False), (1000, "on", True), (0, None, False)],
)
def test_chromium_keeps_its_sandbox_unless_it_runs_as_root_or_is_told_that_another_is_there(
    tmp_path, monkeypatch, uid, variable, has_sandbox
):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.delenv(SANDBOX_VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(SANDBOX_VARIABLE, variable)
    assert ("--no-sandbox" not in asyncio.run(flags(tmp_path))) is has_sandbox
