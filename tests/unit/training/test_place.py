from __future__ import annotations

import sys

import pytest

from raygym import gym_ids
from raygym.catalog import load_catalog
from raygym.errors import ConfigError
from raygym.training.place import find_spec, lockstep_frames, needs_realtime


def test_who_owns_time_follows_from_what_was_asked():
    neon = load_catalog([]).env("flashgames.NeonRace-v0")

    def frames(**asked):
        settings = {"mode": None, "frame_skip": None, "fps": None, "needs_realtime": False}
        return lockstep_frames(neon, **{**settings, **asked})

    assert frames() == 4
    assert frames(frame_skip=2) == 2
    assert frames(mode="realtime") is None
    assert frames(fps=10) is None
    assert frames(needs_realtime=True) is None
    with pytest.raises(ConfigError, match="on these remotes; use --mode realtime"):
        frames(mode="lockstep", needs_realtime=True)
    with pytest.raises(ConfigError, match="--fps: steps have no rate in lock-step"):
        frames(mode="lockstep", fps=10)
    with pytest.raises(ConfigError, match="--frame-skip: frames are skipped in lock-step only"):
        frames(mode="realtime", frame_skip=2)


@pytest.mark.parametrize(
    ("remotes", "backend", "expected"),
    [
        (None, None, False),
        (3, "process", False),
        (1, "fake", True),
        ("vnc://h:5900+15900", None, True),
        ("grpc://h:50051,grpc+unix:///run/a.sock", None, False),
    ],
)
def test_lock_step_needs_remotes_that_have_it(monkeypatch, remotes, backend, expected):
    monkeypatch.delenv("RAYGYM_REMOTES", raising=False)
    assert needs_realtime(remotes, backend) is expected


def test_one_of_gymnasiums_own_ids_is_found_by_itself_and_said_to_be_plain():
    assert [find_spec(env)[1] for env in ("CartPole-v1", "gym-core.CartPole-v1")] == [True, False]
    assert find_spec("CartPole-v1")[0].id == "gym-core.CartPole-v1"


@pytest.mark.parametrize("env", ["ALE/Pong-v5", "PongDeterministic-v3", "gym-core.ALE/Pong-v5"])
def test_a_game_of_atari_says_what_to_install_where_its_emulator_is_absent(monkeypatch, env):
    gym_ids.facts.cache_clear()
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(ConfigError, match=r"pip install 'raygym\[atari\]'"):
        find_spec(env)
