"""Flash games in lock-step, as whole remotes: real Xvnc, Chromium and Ruffle, a bare client."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from raygym.catalog import load_catalog
from raygym.core import Remote
from raygym.remote_env.process_backend import ProcessBackend
from raygym.remote_env.vnc_session import VncSession
from raygym.wire.proto import raygym_v1_pb2 as pb
from raygym.wire.values import map_from_message
from tests.support.lockstep import Client, Frames, Grpc, in_threads
from tests.support.own_games import add_game, compile_swf, write_avm1_swf
from tests.support.player import Player
from tests.support.process_tree import all_end, command, descendants

NEON = "flashgames.NeonRace-v0"
DUSK = "flashgames.DuskDrive-v0"
GAME = np.s_[84 : 84 + 480, 18 : 18 + 640]
NOTHING, UP = 7, 2


class Flash:
    """One remote and what is known of its process."""

    def __init__(self, backend: ProcessBackend, remote: Remote) -> None:
        self.backend = backend
        self.remote = remote
        self.pid = backend.pid(remote.id)
        self.said = json.loads((backend.directory(remote.id) / "ready.json").read_text())

    def client(self) -> Client:
        return Client(Frames(self.said["rpc_socket"], timeout_s=60))

    def play(self, env_id: str = NEON, *, frame_skip: int = 1, **fields: Any) -> Player:
        return Player(self.client(), env_id, frame_skip, fields)

    def renderers(self) -> list[int]:
        return [
            pid
            for pid in descendants(self.pid)
            if "--type=renderer" in (words := " ".join(command(pid))) and "top-chrome" not in words
        ]


@pytest.fixture
def start() -> Iterator[Callable[..., Flash]]:
    backends: list[ProcessBackend] = []

    def begin(*arguments: str) -> Flash:
        backend = ProcessBackend(arguments=("--mode", "lockstep", *arguments))
        backends.append(backend)
        return Flash(backend, backend.start("flashgames", client_id="test"))

    yield begin
    for backend in backends:
        backend.close()


@pytest.fixture(scope="module")
def flash(tmp_path_factory) -> Iterator[Flash]:
    games = tmp_path_factory.mktemp("games")
    keys = 'keys: ["", "a"]\n'
    asked = add_game(
        games,
        "Asked",
        f"{keys}swf: Asked.swf\nscore: {{source: poll, name: getScore, over: isOver}}",
    )
    compile_swf("Asked", asked)
    menu = add_game(
        games,
        "Menu",
        f"{keys}swf: Menu.swf\nscore: {{source: call, name: game.scored}}\nstart_keys: enter",
    )
    compile_swf("Menu", menu)
    old = add_game(games, "Old", f"{keys}swf: old one.swf\nmax_episode_s: 2")
    write_avm1_swf(old / "old one.swf", (200, 30, 60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYGYM_GAMES", str(games))
        backend = ProcessBackend(arguments=("--mode", "lockstep"))
        remote = backend.start("flashgames", client_id="test")
    it = Flash(backend, remote)
    below = descendants(it.pid)
    yield it
    backend.close()
    assert all_end(below)


def play_through(player: Player, steps: int) -> tuple[str, int]:
    """Plays random actions through several episodes; returns a digest of all that came."""
    rng = np.random.default_rng(11)
    digest, episodes = hashlib.blake2b(digest_size=8), 0
    row = None
    for _ in range(steps):
        if row is None or row.is_over:
            row = player.reset(seed=100 + episodes)
            episodes += 1
        else:
            row = player.step(int(rng.integers(player.made.action_space.discrete.n)))
        assert not row.failures
        digest.update(row.content())
    return digest.hexdigest(), episodes


@pytest.mark.parametrize(("env_id", "steps"), [(NEON, 500), (DUSK, 250)])
def test_the_same_seeds_and_actions_give_the_same_bytes_in_every_reset_and_remote(
    flash, start, env_id, steps
):
    def twice() -> list[tuple[str, int]]:
        with flash.play(env_id, frame_skip=5) as player:
            return [play_through(player, steps) for _ in range(2)]

    def elsewhere() -> tuple[str, int]:
        with start().play(env_id, frame_skip=5) as player:
            return play_through(player, steps)

    (first, again), other = in_threads(2, lambda i: twice() if i == 0 else elsewhere())
    assert first == again == other
    assert first[1] > 1, "several episodes were played"


def test_another_seed_gives_another_episode(flash):
    with flash.play() as player:
        states = [player.reset(seed=seed).info["game_state"] for seed in (1, 2, 1)]
    assert states[0] == states[2] != states[1]


def test_without_a_seed_one_is_drawn_and_told_and_plays_the_same_again(flash):
    with flash.play(frame_skip=5) as player:
        drawn = player.reset()
        first = player.step(UP)
        assert player.reset(drawn.info["seed"]).content() == drawn.content()
        assert player.step(UP).content() == first.content()
        assert player.reset().info["seed"] != drawn.info["seed"]


def test_the_game_stands_still_between_steps(flash):
    with flash.play(frame_skip=2) as player:
        digests = []
        for pause_s in (0.0, 0.15):
            rows = [player.reset(3)]
            for _ in range(5):
                time.sleep(pause_s)  # not to wait for anything: it is what must not matter
                rows.append(player.step(UP))
            digests.append([row.content() for row in rows])
            assert [row.frame for row in rows] == [1, 3, 5, 7, 9, 11]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("frame_skip", [1, 5, 12])
def test_a_step_plays_exactly_its_frames(flash, frame_skip):
    with flash.play(frame_skip=frame_skip) as player:
        frames = [player.reset(1).frame, player.step(NOTHING).frame, player.step(UP).frame]
    assert np.diff(frames).tolist() == [frame_skip, frame_skip]


@pytest.mark.parametrize("env_id", [NEON, DUSK])
def test_a_step_of_five_frames_shows_and_brings_what_five_steps_do(flash, env_id):
    with flash.play(env_id, frame_skip=1) as player:
        player.reset(4)
        single = [player.step(UP) for _ in range(60)]
    with flash.play(env_id, frame_skip=5) as player:
        player.reset(4)
        five = [player.step(UP) for _ in range(12)]
    assert [row.frame for row in five] == [row.frame for row in single[4::5]]
    assert all((a.picture == b.picture).all() for a, b in zip(five, single[4::5], strict=True))
    assert np.isclose(sum(row.reward for row in five), sum(row.reward for row in single))


def test_keys_act_within_the_very_step_and_are_released_by_the_next(flash):
    with flash.play() as player:
        player.reset(3)
        assert player.step(NOTHING).info["game_state"]["speed"] == 0
        speeds = [player.step(UP).info["game_state"]["speed"] for _ in range(3)]
        assert 0 < speeds[0] < speeds[1] < speeds[2]
        assert player.step(NOTHING).info["game_state"]["speed"] < speeds[2]


def test_a_key_that_was_held_at_an_end_is_not_held_in_the_next_episode(flash):
    with flash.play() as player:
        player.reset(3)
        player.step(UP)
        player.reset(3)
        assert player.step(NOTHING).info["game_state"]["speed"] == 0


def test_rewards_add_up_and_an_episode_ends_by_itself(flash):
    spec = load_catalog().env(NEON)
    with flash.play(frame_skip=25) as player:
        player.reset(3)
        rows = [player.step(UP)]
        while not rows[-1].is_over:
            rows.append(player.step(UP))
    assert rows[-1].terminated
    assert not rows[-1].truncated
    assert len(rows) <= spec.max_episode_s + 1
    assert sum(row.reward for row in rows) > 10


@pytest.mark.parametrize(
    ("width", "height", "is_grey", "most_off"),
    [(400, 300, True, 0.01), (400, 300, False, 0.01), (640, 480, True, 0), (96, 72, True, 3)],
)
def test_pictures_are_scaled_at_the_source_as_they_would_be_here(
    flash, width, height, is_grey, most_off
):
    with flash.play(frame_skip=5) as player:
        player.reset(3)
        full = player.step(UP).picture
    small = pb.Picture(is_grey=is_grey, width=width, height=height)
    with flash.play(frame_skip=5, picture=small, render_mode="rgb_array") as player:
        player.reset(3)
        seen = player.step(UP).picture
        rendered = player.render()
    image = cv2.cvtColor(full, cv2.COLOR_RGB2GRAY) if is_grey else full
    expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    off = np.abs(seen.astype(int) - expected.reshape(seen.shape))
    assert off.mean() <= most_off
    assert full.shape == rendered.shape
    assert np.abs(rendered.astype(int) - full).mean() <= 10 * most_off


@pytest.mark.parametrize(
    ("crop", "size", "most_off"),
    [
        ((100, 40, 320, 200), (320, 200), 0),
        ((100, 40, 320, 200), (200, 150), 0.01),
        ((0, 180, 640, 300), (128, 60), 3),
        ((1, 181, 638, 299), (128, 60), 0.01),
    ],
)
def test_a_crop_is_a_part_of_the_game_and_not_of_the_screen(flash, crop, size, most_off):
    with flash.play(frame_skip=5) as player:
        player.reset(3)
        full = player.step(UP).picture
    x, y, width, height = crop
    part = pb.Picture(
        crop_x=x, crop_y=y, crop_width=width, crop_height=height, width=size[0], height=size[1]
    )
    with flash.play(frame_skip=5, picture=part) as player:
        player.reset(3)
        seen = player.step(UP).picture
    cropped = np.ascontiguousarray(full[y : y + height, x : x + width])
    expected = cv2.resize(cropped, size, interpolation=cv2.INTER_AREA)
    assert np.abs(seen.astype(int) - expected).mean() <= most_off


def test_a_crop_beyond_the_game_is_refused_with_what_is_there(flash):
    beyond = pb.Picture(crop_x=600, crop_y=0, crop_width=41, crop_height=10)
    with flash.client() as client:
        client.hello()
        refused = client.ask(make=pb.Make(env_id=NEON, picture=beyond)).error
    assert refused.code == pb.Error.INVALID_ARGUMENT
    assert "the crop ends at column 641 and row 10" in refused.message


def test_a_viewer_sees_the_very_picture_of_the_last_step_and_cannot_touch_the_game(flash):
    remote = flash.remote
    session = VncSession(remote.vnc, password=remote.password)
    try:
        with flash.play(frame_skip=5) as player:
            player.reset(3)
            for _ in range(10):
                picture = player.step(UP).picture
            deadline_s = asked_s = time.monotonic()
            while not (session.read_frame(timeout_s=60).pixels[GAME] == picture).all():
                assert session.wait_frame(not_before_s=asked_s, until_s=deadline_s + 10)
                assert time.monotonic() < deadline_s + 10
                asked_s = np.nextafter(session.read_frame().arrived_s, np.inf)
    finally:
        session.close()


def test_metadata_and_action_space_are_those_of_the_catalog(flash):
    spec = load_catalog().env(NEON)
    with flash.play(frame_skip=5) as player:
        metadata = map_from_message(player.made.metadata)
        assert player.made.action_space.discrete.n == len(spec.actions)
    assert metadata["env_id"] == NEON
    assert metadata["fps"] == spec.fps
    assert [tuple(keys) for keys in metadata["actions"]] == list(spec.actions)


def test_one_conversation_plays_and_a_second_waits_or_goes_away(flash):
    with flash.play() as player, flash.client() as second:
        player.reset(1)
        assert second.hello().env_ids
        refused = second.ask(make=pb.Make(env_id=NEON))
        assert refused.error.code == pb.Error.RESOURCE_EXHAUSTED
        assert "another client" in refused.error.message
        assert not player.step(UP).failures
        player.client.close()
        assert second.ask(make=pb.Make(env_id=NEON)).HasField("made")


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (pb.Make(env_id=NEON, count=4), pb.Error.RESOURCE_EXHAUSTED, "one game at a time"),
        (pb.Make(env_id="flashgames.Nothing-v0"), pb.Error.NOT_FOUND, NEON),
        (pb.Make(env_id=NEON, frame_skip=10**6), pb.Error.INVALID_ARGUMENT, "frame_skip"),
        (
            pb.Make(env_id=NEON, kwargs=pb.Map(items={"a": pb.Value(integer=1)})),
            pb.Error.INVALID_ARGUMENT,
            "kwargs",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(flash, asked, code, words):
    with flash.client() as client:
        client.hello()
        error = client.ask(make=asked).error
        assert error.code == code
        assert words in error.message
        assert client.ask(make=pb.Make(env_id=NEON)).HasField("made")


def test_a_killed_page_is_a_failure_at_once_and_the_next_reset_brings_another(flash):
    with flash.play(frame_skip=5) as player:
        player.reset(3)
        before = player.step(UP)
        for pid in flash.renderers():
            os.kill(pid, signal.SIGKILL)
        lost = player.step(UP)
        (failure,) = lost.failures
        assert failure.outcome == "env_failure"
        assert "browser_crashed" in failure.error.message
        assert lost.truncated
        player.reset(3)
        assert player.step(UP).content() == before.content()


def test_a_hanging_page_is_told_within_the_deadline_of_a_step_and_mended(start):
    flash = start("--step-timeout-s", "1.5")
    with flash.play(frame_skip=5) as player:
        player.reset(3)
        before = player.step(UP)
        for pid in flash.renderers():
            os.kill(pid, signal.SIGSTOP)
        began_s = time.monotonic()
        (failure,) = player.step(UP).failures
        assert failure.outcome == "timeout"
        assert time.monotonic() - began_s < 10
        player.reset(3)
        assert player.step(UP).content() == before.content()


@pytest.mark.parametrize("game", ["Asked", "Menu"])
def test_a_game_that_is_loaded_anew_for_each_episode_plays_the_same_again(flash, game):
    with flash.play(f"flashgames.{game}-v0") as player:
        plays = []
        for _ in range(2):
            rows = [player.reset(5), *(player.step(i % 2) for i in range(6))]
            plays.append([row.content() for row in rows])
            assert sum(row.reward for row in rows) > 0
    assert plays[0] == plays[1]


def test_a_game_without_an_end_is_cut_at_its_time_limit_by_its_own_clock(flash):
    with flash.play("flashgames.Old-v0", frame_skip=10) as player:
        player.reset(1)
        rows = [player.step(0) for _ in range(4)]
        last = player.step(0)
    assert not any(row.is_over for row in rows)
    assert last.truncated
    assert not last.terminated
    assert last.info["reason"] == "time_limit"


def test_over_tcp_it_is_stepped_with_the_password_as_token(start):
    flash = start("--rpc-port", "0", "--env", NEON)
    endpoint, password = flash.remote.rpc, flash.remote.password
    token = (("authorization", f"Bearer {password.reveal()}"),)
    with Client(Grpc(f"{endpoint.host}:{endpoint.port}", token)) as client:
        welcome = client.hello()
        assert (welcome.runtime, list(welcome.env_ids)) == ("flashgames", [NEON])
        assert welcome.local_socket == flash.said["rpc_socket"]
        client.make()
        assert not client.reset(seeds=[1]).failures


def test_it_ends_by_itself_without_clients_and_leaves_nothing(start):
    flash = start("--idle-timeout-s", "1")
    below = descendants(flash.pid)
    assert len(below) > 3
    assert all_end({flash.pid, *below}, timeout_s=30)
