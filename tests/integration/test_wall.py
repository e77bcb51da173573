"""The wall in a browser: of slots that play on Ray, and of a remote that a person drives."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import ray

import raygym
from raygym.core import Endpoint, Remote, Secret
from raygym.errors import RaygymError, RemoteUnreachable
from raygym.remote_env.process_backend import ProcessBackend
from raygym.remote_env.state import remotes_directory
from raygym.service.detached import NAMESPACE
from raygym.service.spectators import Show
from raygym.wall.access import Access
from raygym.wall.hub import NAME, Hub, RayHub
from raygym.wall.pictures import Pictures, PicturesConfig
from raygym.wall.screens import ActorLine, RayScreens, dial_here, screens_of
from raygym.wall.tiles import ScreenPlace, Watch
from raygym.wall.viewing import greet
from tests.support.fake_wall import QUICK, playing, record, served, show, until
from tests.support.page_browser import TILE, OpenPage, is_moving, page_at
from tests.support.small_ray import small_ray

LONG_S = 90.0
DRIVE = "drive-drive-drive-drive"


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A small Ray of this machine; gives its address."""
    with small_ray() as address:
        yield address


@contextlib.contextmanager
def watching(address: str, *options: str) -> Iterator[list[str]]:
    """Runs ``raygym watch``; gives what it prints once it serves."""
    code = "from raygym.cli import main; raise SystemExit(main())"
    words = ["watch", "--address", address, "--port", "0", *options]
    command = [sys.executable, "-u", "-c", code, *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "RAY_ADDRESS": ""}
    )
    said: list[str] = []
    assert process.stdout is not None
    try:
        for line in process.stdout:
            said.append(line.strip())
            if line.startswith("Ctrl-C"):
                break
        yield said
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def url_of(said: list[str]) -> str:
    return next(line for line in said if line.startswith("the wall: ")).partition(": ")[2]


@contextlib.contextmanager
def playing_on(env: Any, num_slots: int, told: Show, **settings: Any) -> Iterator[None]:
    """Plays slots in a RolloutService until the block ends."""
    opens = (functools.partial(Pictures.open, PicturesConfig(heartbeat_s=0.5)),)
    options = {"rollout_steps": 8, "actor_options": {"num_cpus": 0.1}, **settings}
    service = raygym.RolloutService(env, num_slots, show=replace(told, opens=opens), **options)
    must_end = threading.Event()

    def take() -> None:
        with contextlib.suppress(RaygymError):
            while not must_end.is_set():
                service.next_rollout(timeout_s=1.0)

    taking = threading.Thread(target=take)
    taking.start()
    try:
        yield
    finally:
        must_end.set()
        taking.join(30)
        service.close()


def test_the_wall_of_a_run_on_ray_shows_every_slot_live(cluster, tmp_path):
    catch = show("run-of-catch", "test.Catch-v0")
    carts = show("run-of-carts", "gym-core.CartPole-v1", mode="lockstep")
    with (
        playing_on("test.Catch-v0", 4, catch, slots_per_actor=2),
        playing_on("gym-core.CartPole-v1", 2, carts, slots_per_actor=2),
        watching(cluster) as said,
        page_at(url_of(said), tmp_path) as page,
    ):
        page.wait_for("window.raygymWall && raygymWall.tiles.size === 6", timeout_s=LONG_S)
        keys = page.evaluate("[...raygymWall.tiles.keys()].sort()")
        assert keys == [f"run-of-carts/{n}" for n in range(2)] + [
            f"run-of-catch/{n}" for n in range(4)
        ]
        catch_tiles = "[...raygymWall.tiles.values()].filter((t) => t.row.run === 'run-of-catch')"
        for claim in (
            "t.hasPicture && t.row.episodes > 0 && t.row.outcome === 'ok'",
            "t.row.reaction_ms > 0 && t.row.remote_id.startsWith('r-')",
            "t.age() < 3 && t.button.dataset.level === 'ok'",
        ):
            page.wait_for(f"{catch_tiles}.every((t) => {claim})", timeout_s=LONG_S)
        is_moving(page, 3)
        page.wait_for("document.querySelectorAll('#run option').length === 3")
        page.wait_for("raygymWall.tiles.get('run-of-carts/1').hasPicture")
    hub = ray.get_actor(NAME, namespace=NAMESPACE)
    ray.kill(hub)


def test_a_hub_that_was_killed_is_made_again_and_hears_of_every_slot(cluster):
    pictures = Pictures(show(), "a-0", RayHub(), QUICK)
    try:
        pictures.reported([playing(0), playing(1)])
        hub = RayHub()
        until(lambda: len(hub.news("", 0, Watch(name="s")).tiles) == 2, timeout_s=LONG_S)
        before = hub.news("", 0, Watch(name="s")).epoch
        ray.kill(ray.get_actor(NAME, namespace=NAMESPACE), no_restart=False)

        def is_back() -> bool:
            news = hub.news("", 0, Watch(name="s"))
            return news.epoch != before and len(news.tiles) == 2

        until(is_back, timeout_s=LONG_S)
    finally:
        pictures.close()
        ray.kill(ray.get_actor(NAME, namespace=NAMESPACE))


def test_tokens_are_made_and_told_where_none_is_given(cluster):
    with watching(cluster, "--token", "--take-over") as said:
        assert re.search(r"\?token=\S{16,}$", url_of(said))
        assert any(line.startswith("token for driving: ") for line in said)


@contextlib.contextmanager
def catch_on_the_wall(scratch: Path) -> Iterator[tuple[OpenPage, Any]]:
    """One remote that an agent plays, on a wall where a person may drive."""
    backend, hub, must_end = ProcessBackend(), Hub(), threading.Event()
    pictures = Pictures(show("catch-1", "test.Catch-v0"), "a-0", hub, QUICK)
    env = raygym.make("test.Catch-v0", backend=backend)
    observation, _ = env.reset(seed=1)
    remote = backend.list()[0]

    def play(seen: Any) -> None:
        while not must_end.is_set():
            seen, score, terminated, truncated, _ = env.step(0)
            pictures.stepped(np.array([0]), seen[None], 0.01)
            if terminated or truncated:
                pictures.ended(record(0, float(score)))
                pictures.reported([playing(0, remote=remote)])
                env.reset()

    thread = threading.Thread(target=play, args=(observation,))
    thread.start()
    access = Access("127.0.0.1", take_over=Secret(DRIVE))
    try:
        with served(hub, access=access) as url, page_at(url, scratch) as page:
            page.wait_for(f"window.raygymWall && {TILE.format(0)}?.row.has_screen")
            yield page, env
    finally:
        must_end.set()
        thread.join(30)
        pictures.close()
        env.close()
        backend.close()


def inputs(env: Any) -> int:
    """Returns how many input events the remote has had, as it paints them."""
    return int(env.unwrapped._slot.timing_mark.input_count)


def test_a_person_looks_at_the_screen_and_drives_only_with_the_token(tmp_path):
    with catch_on_the_wall(tmp_path) as (page, env):
        page.evaluate("document.querySelector('.tile').focus()")
        page.press("Enter")
        page.wait_for("raygymWall.look.rfb?._rfbConnectionState === 'connected'")
        page.wait_for("document.getElementById('look-word').textContent === ''")
        assert page.evaluate("raygymWall.look.rfb.viewOnly")
        # A page that was tampered with; the agent's own keys are few.
        page.evaluate("raygymWall.look.rfb.viewOnly = false; raygymWall.look.rfb.focus()")
        before = inputs(env)
        for _ in range(50):
            page.press("a")
        page.click("#take-over")
        page.type_text("not-the-right-token")
        page.press("Enter")
        page.wait_for(
            "document.getElementById('drive-word').textContent.startsWith('This is not the token')"
        )
        assert page.evaluate("document.getElementById('driving').hidden")
        assert inputs(env) < before + 50

        page.type_text(DRIVE)
        page.press("Enter")
        page.wait_for("!document.getElementById('driving').hidden")
        before = inputs(env)
        for _ in range(50):
            page.press("a")
        until(lambda: inputs(env) >= before + 100)
        page.press("Escape", modifiers=8)
        page.wait_for("document.getElementById('driving').hidden")
        page.wait_for("raygymWall.look.rfb?._rfbConnectionState === 'connected'")
        assert page.evaluate("raygymWall.look.rfb.viewOnly")
        page.keep_downloads()
        page.press("p")
        (saved,) = page.downloaded(1)
        assert cv2.imread(str(saved)).shape[1] > 100


def test_a_screen_of_another_node_is_reached_through_the_actor_of_that_node(cluster):
    node = ray.get_runtime_context().get_node_id()
    backend = ProcessBackend()
    env = raygym.make("test.Catch-v0", backend=backend)
    try:
        env.reset(seed=1)
        remote = backend.list()[0]
        actor = screens_of(node)

        async def look() -> tuple[bytes, bytes]:
            async with asyncio.timeout(LONG_S):
                place = ScreenPlace(remote_id=remote.id, node=node, remote=remote)
                number, password = await actor.dial.remote(place)
                line = ActorLine(actor, number, password)
                greeting = await greet(line)
                await line.close()
                return greeting, await line.read()

        greeting, rest = asyncio.run(look())
    finally:
        env.close()
        backend.close()
        ray.kill(screens_of(node))

    assert struct.unpack_from(">HH", greeting) > (0, 0)
    assert rest == b"", "a line that was closed ends"


def test_a_screen_that_is_gone_is_said_to_be_gone(cluster):
    node = ray.get_runtime_context().get_node_id()
    gone = Remote(id="r-1", runtime="test", vnc=Endpoint(path="/nowhere.sock"), rewarder=None)
    places = [
        ScreenPlace(remote_id="r-1", node=node, remote=gone),
        ScreenPlace(remote_id="r-1", node=node),
        ScreenPlace(remote_id="../r-1", node=node),
        ScreenPlace(remote_id="r-1", node="f" * 56, remote=gone),
    ]
    for place in places:
        with pytest.raises(RemoteUnreachable, match="r-1"):
            asyncio.run(RayScreens().dial(place))


def test_the_screen_of_a_container_is_found_by_its_name(monkeypatch, tmp_path):
    monkeypatch.setenv("RAYGYM_STATE", str(tmp_path))
    directory = remotes_directory(tmp_path) / "r-1"
    directory.mkdir()
    (directory / "password").write_text("secret\n")

    async def look() -> Secret | None:
        server = await asyncio.start_unix_server(
            lambda _, writer: writer.close(), directory / "vnc.sock"
        )
        async with server:
            line = await dial_here(ScreenPlace(remote_id="r-1", node=""))
            await line.close()
        return line.password

    assert asyncio.run(look()) == Secret("secret")
