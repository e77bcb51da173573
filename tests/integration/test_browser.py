"""Browser against a Chromium that is played by a script, so that it fails to order."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raygym.errors import MissingDependency
from raygym.runtimes.browser import Browser, BrowserError
from tests.support.loop_thread import LoopThread
from tests.support.process_tree import all_end

SCRIPT = Path(__file__).parents[1] / "support" / "fake_chromium.py"
URL = "http://127.0.0.1:9/token/play.html"


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    it = LoopThread()
    yield it
    it.close()


class Opened:
    """A browser and what its page has sent."""

    def __init__(self, loop: LoopThread, directory: Path) -> None:
        self.messages: list[str] = []
        self.run = loop.run
        self.browser = loop.run(self._make(directory))

    async def _make(self, directory: Path) -> Browser:
        return Browser(
            directory,
            environment={"DISPLAY": ":99"},
            size_px=(320, 240),
            on_message=self.messages.append,
        )


@pytest.fixture
def make(loop, tmp_path, monkeypatch) -> Iterator[Callable[[str], Opened]]:
    made: list[Opened] = []

    def build(mode: str) -> Opened:
        program = tmp_path / f"chromium-{mode}"
        program.write_text(f"#!{sys.executable} -SE\n{SCRIPT.read_text()}")
        program.chmod(0o755)
        monkeypatch.setenv("RAYGYM_CHROMIUM", str(program))
        (tmp_path / "home").mkdir(exist_ok=True)
        made.append(Opened(loop, tmp_path / "home"))
        return made[-1]

    yield build
    for it in made:
        loop.run(it.browser.close())
        if it.browser.pid is not None:
            assert all_end([it.browser.pid])
    assert list((tmp_path / "home").iterdir()) == []


@pytest.fixture
def opened(make) -> Opened:
    it = make("works")
    it.run(it.browser.start(URL))
    return it


def test_it_has_started_once_the_page_has_spoken(opened):
    assert opened.messages == ["hello"]
    assert opened.run(opened.browser.evaluate("1 + 1")) == "1 + 1"
    assert opened.browser.loss is None


def test_it_gets_private_folders_its_screen_and_nothing_else(opened, monkeypatch):
    variables = opened.run(opened.browser.evaluate("environment"))
    assert variables["DISPLAY"] == ":99"
    homes = {variables[name] for name in ("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    assert len(homes) == 1
    assert "RAYGYM_CHROMIUM" not in variables
    arguments = opened.run(opened.browser.evaluate("arguments"))
    assert f"--user-data-dir={homes.pop()}" in arguments
    assert ("--no-sandbox" in arguments) == (os.geteuid() == 0)
    assert not any("remote-debugging-port" in argument for argument in arguments)
    assert "--window-size=321,241" in arguments


def test_what_the_page_throws_is_told_with_the_expression(opened):
    with pytest.raises(BrowserError, match="the page threw on 'throw': Error: no"):
        opened.run(opened.browser.evaluate("throw"))


def test_a_refused_command_is_an_error(opened):
    with pytest.raises(BrowserError, match="not today"):
        opened.run(opened.browser.call("Browser.refuse"))


def test_an_answer_that_does_not_come_is_an_error_in_time(opened):
    began_s = time.monotonic()
    with pytest.raises(BrowserError, match=r"no answer within 0.2 s"):
        opened.run(opened.browser.evaluate("never", timeout_s=0.2))
    assert time.monotonic() - began_s < 5
    assert opened.browser.loss is None


@pytest.mark.parametrize(
    ("order", "detail"),
    [
        ("crash", "the page's process crashed"),
        ("close", "the page was closed"),
        ("die", "exit code -9"),
        ("nonsense", "it sent what makes no sense"),
    ],
)
def test_each_way_to_lose_it_is_told_and_fails_every_later_call(opened, order, detail):
    with contextlib.suppress(BrowserError):
        opened.run(opened.browser.evaluate(order))
    loss = opened.run(opened.browser.wait_lost())
    assert loss.reason == "browser_crashed"
    assert detail in loss.detail
    with pytest.raises(BrowserError, match="browser_crashed"):
        opened.run(opened.browser.evaluate("1"))


def test_one_that_ends_at_once_is_an_error_with_its_exit_code(make):
    opened = make("ends")
    with pytest.raises(BrowserError, match="exit code 9"):
        opened.run(opened.browser.start(URL))


def test_one_that_says_nothing_is_an_error_in_time(make):
    opened = make("mute")
    with pytest.raises(BrowserError, match=r"showed no page within 0.3 s"):
        opened.run(opened.browser.start(URL, timeout_s=0.3))


def test_an_absent_chromium_is_named_with_its_package(make, monkeypatch):
    opened = make("works")
    monkeypatch.setenv("RAYGYM_CHROMIUM", "/no/such/chromium")
    with pytest.raises(MissingDependency, match=r"/no/such/chromium.*install .* chromium"):
        opened.run(opened.browser.start(URL))


def test_nothing_can_be_asked_before_the_start(make):
    opened = make("works")
    with pytest.raises(BrowserError, match="not started"):
        opened.run(opened.browser.evaluate("1"))
