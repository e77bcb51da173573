"""The page of the wall in a headless Chromium, over slots that only paint."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from raygym.core import Outcome
from raygym.service.reports import SamplerReport
from raygym.wall.hub import Hub
from raygym.wall.pictures import Pictures
from tests.support.fake_wall import QUICK, FakeSlots, painted, playing, record, served, show
from tests.support.page_browser import TILE, OpenPage, is_moving, page_at


@contextlib.contextmanager
def wall_of_twelve(scratch: Path, **options: Any) -> Iterator[tuple[OpenPage, FakeSlots]]:
    """Twelve slots of three actors: slot 5's last episode failed, slot 9 does not start."""
    hub = Hub()
    told = show("neonrace-7", "flashgames.NeonRace-v0")
    actors = [Pictures(told, f"rollouts-{n}", hub, QUICK, node="n" * 40) for n in range(3)]
    try:
        for slot in range(12):
            actor = actors[slot // 4]
            actor.stepped(np.array([slot]), painted(slot, 0)[None], 0.0)
            for score in range(5):
                actor.ended(record(slot, float(score * (slot + 1))))
            actor.reported([playing(slot, reaction_ms=100.0 - slot)])
        actors[1].ended(
            record(5, 0.5, outcome=Outcome.ENV_FAILURE, reason="browser_crashed: exit code 5")
        )
        actors[2].reported(
            [SamplerReport(slot=9, state="retrying", error="RemoteFailedToStart: r-1 is silent")]
        )
        with (
            FakeSlots(actors, 4) as slots,
            served(hub, **options) as url,
            page_at(url, scratch) as page,
        ):
            page.wait_for("window.raygymWall && raygymWall.tiles.size === 12")
            page.wait_for("[...raygymWall.tiles.values()].every((tile) => tile.hasPicture)")
            yield page, slots
    finally:
        for actor in actors:
            actor.close()


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenPage, FakeSlots]]:
    with wall_of_twelve(tmp_path_factory.mktemp("twelve")) as made:
        yield made


@pytest.fixture
def page(twelve: tuple[OpenPage, FakeSlots]) -> Iterator[OpenPage]:
    page, slots = twelve
    yield page
    slots.paused.clear()
    page.evaluate(
        "raygymWall.look.isOpen && document.getElementById('look').close();"
        "document.querySelector('[data-view=all]').click();"
        "document.getElementById('sort').value = 'slot';"
        "document.getElementById('sort').dispatchEvent(new Event('change'));"
        "document.getElementById('filter').value = '';"
        "document.getElementById('filter').dispatchEvent(new Event('input'));"
        "document.querySelector('#grid .tile').focus();"
        "document.activeElement.blur()"
    )


def order(page: OpenPage) -> list[int]:
    said: list[int] = page.evaluate(
        "[...document.querySelectorAll('#grid li')].map((li) => +li.dataset.key.split('/')[1])"
    )
    return said


FOCUSED = "document.activeElement.closest('li')?.dataset.key ?? ''"


def focused(page: OpenPage) -> str:
    said: str = page.evaluate(FOCUSED)
    return said


def test_failures_stand_out_by_more_than_colour(page):
    assert page.evaluate(f"{TILE.format(9)}.button.innerText").split("\n")[0] == (
        "RemoteFailedToStart: r-1 is silent"
    )
    label = page.evaluate(f"{TILE.format(5)}.button.getAttribute('aria-label')")
    assert "env failure: browser_crashed: exit code 5" in label
    counts = page.evaluate("document.querySelector('[data-view=trouble]').innerText")
    assert counts.split() == ["In", "trouble", "2"]


def test_every_tile_can_be_reached_with_the_arrow_keys_and_shows_its_focus(page):
    page.press("ArrowRight")
    assert focused(page) == "neonrace-7/1"
    page.press("ArrowDown")
    below = focused(page)
    assert below != "neonrace-7/1"
    outline = page.evaluate(
        "(() => { const s = getComputedStyle(document.activeElement);"
        " return [s.outlineStyle, parseFloat(s.outlineWidth)]; })()"
    )
    assert outline == ["solid", 3]
    page.press("ArrowUp")
    page.press("ArrowLeft")
    assert focused(page) == "neonrace-7/0"
    stops = page.evaluate("document.querySelectorAll('#grid [tabindex=\"0\"]').length")
    assert stops == 1, "Tab passes the tiles in one step"


@pytest.mark.parametrize(
    ("key", "first"), [("2", [9, 5]), ("3", [5, 0]), ("4", [11, 10]), ("5", [0, 1]), ("1", [0, 1])]
)
def test_keys_sort(page, key, first):
    page.press(key)

    assert order(page)[:2] == first
    assert len(order(page)) == 12


def test_keys_filter(page):
    page.press("f")
    assert order(page) == [5, 9]
    page.press("f")
    page.press("/")
    page.type_text("retrying")
    page.wait_for("document.querySelectorAll('#grid li').length === 1")
    assert order(page) == [9]


def test_a_picture_that_stands_still_says_how_old_it_is(page, twelve):
    _, slots = twelve
    slots.paused.add(3)
    tile = TILE.format(3)
    page.wait_for(f"{tile}.isStale() && !{tile}.parts.badge.hidden")

    assert re.fullmatch(r"[\d.]+ s old", page.evaluate(f"{tile}.parts.badge.innerText"))
    assert not page.evaluate(f"{TILE.format(4)}.isStale()")
    page.wait_for("document.querySelector('[data-view=stale]').innerText.includes('1')")
    slots.paused.clear()
    page.wait_for(f"!{tile}.isStale()")


def test_enter_shows_one_slot_large_and_escape_leads_back_to_its_tile(page):
    page.press("ArrowRight")
    page.press("Enter")
    page.wait_for("raygymWall.look.isOpen && raygymWall.look.canvas?.width === 160")
    assert "Slot 1" in page.evaluate("document.getElementById('look').innerText")
    page.press("ArrowRight")
    page.wait_for("raygymWall.look.key === 'neonrace-7/2'")
    page.press("Escape")

    # A dialog's "close" comes after it has closed.
    page.wait_for(f"!raygymWall.look.isOpen && ({FOCUSED}) === 'neonrace-7/2'")


def test_pictures_are_saved_as_png(page):
    page.keep_downloads()
    before = len(list(page.downloads.glob("*.png")))
    page.press("p")
    (wall,) = page.downloaded(before + 1)[before:]
    page.press("ArrowRight")
    page.press("Enter")
    page.wait_for("raygymWall.look.canvas?.width === 160")
    page.press("p")
    one = page.downloaded(before + 2)[-1]

    assert wall.name.startswith("raygym-wall-")
    assert cv2.imread(str(wall)).shape[1] > 800
    assert one.name.startswith("raygym-slot-1-")
    assert cv2.imread(str(one)).shape == (120, 160, 3)


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_the_page_is_light_or_dark_as_the_system_prefers(page, scheme, is_dark):
    page.prefer(scheme)
    page.wait_for("getComputedStyle(document.body).backgroundColor")
    corner = page.picture()[-4:, :4]

    assert bool(corner.mean() < 60) is is_dark
    assert bool(corner.mean() > 200) is not is_dark


def test_words_can_be_read_on_their_ground_in_light_and_in_dark(page):
    contrast = """((name, ground) => {
      const shade = (value) => { const d = document.createElement('p');
        d.style.color = `var(${value})`; document.body.append(d);
        const found = getComputedStyle(d).color.match(/[\\d.]+/g).slice(0, 3); d.remove();
        const [r, g, b] = found.map((c) => (c / 255 <= .03928 ? c / 255 / 12.92
          : ((c / 255 + .055) / 1.055) ** 2.4));
        return .2126 * r + .7152 * g + .0722 * b; };
      const [a, b] = [shade(name), shade(ground)].sort((x, y) => y - x);
      return (a + .05) / (b + .05); })"""
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        for name in ("--ink", "--soft", "--accent", "--bad", "--warn"):
            for ground in ("--ground", "--sheet", "--well"):
                ratio = page.evaluate(f"{contrast}('{name}', '{ground}')")
                assert ratio >= 4.5, (scheme, name, ground, ratio)
        for name, ground in (("--bad", "--bad-wash"), ("--on-accent", "--accent")):
            assert page.evaluate(f"{contrast}('{name}', '{ground}')") >= 4.5, (scheme, name)


def test_a_page_whose_server_ends_says_so_and_goes_on_when_it_is_back(tmp_path):
    hub = Hub()
    pictures = Pictures(show(), "a-0", hub, QUICK)
    try:
        with FakeSlots([pictures], 2), contextlib.ExitStack() as stack:
            first = contextlib.ExitStack()
            url = first.enter_context(served(hub))
            page = stack.enter_context(page_at(url, tmp_path))
            page.wait_for("window.raygymWall && raygymWall.tiles.size === 2")
            first.close()
            page.wait_for("!document.getElementById('notice').hidden")
            assert "does not answer" in page.evaluate("document.getElementById('notice').innerText")
            port = int(url.rpartition(":")[2].strip("/"))
            stack.enter_context(served(hub, port=port))
            page.wait_for("document.getElementById('notice').hidden")
            is_moving(page, 1)
    finally:
        pictures.close()


def test_a_slot_of_a_dead_actor_is_said_to_be_silent(tmp_path):
    hub = Hub()
    living = Pictures(show(), "a-0", hub, QUICK)
    dying = Pictures(show(), "a-1", hub, QUICK)
    try:
        living.reported([playing(0)])
        dying.reported([playing(1)])
        with served(hub) as url, page_at(url, tmp_path) as page:
            page.wait_for("window.raygymWall && raygymWall.tiles.size === 2")
            # What kill -9 does to the actor's thread.
            dying._publish = lambda **_: None  # type: ignore[method-assign]
            page.wait_for(f"{TILE.format(1)}.row.is_silent")
            assert "said nothing for" in page.evaluate(f"{TILE.format(1)}.button.innerText")
            assert page.evaluate(f"{TILE.format(0)}.button.dataset.level") == "ok"
    finally:
        living.close()
        dying.close()


def test_without_a_run_the_page_says_how_slots_appear(tmp_path):
    with served(Hub()) as url, page_at(url, tmp_path) as page:
        page.wait_for("document.getElementById('empty').innerText.includes('Nothing plays here')")
