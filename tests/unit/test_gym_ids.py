from __future__ import annotations

import sys
import threading
from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml

from raygym import gym_ids
from raygym.catalog import Region, load_catalog
from raygym.errors import ConfigError

TABLE = yaml.safe_load(gym_ids._TABLE.read_text())
# From gym's registrations of that time: frames of one step, chance to repeat an action.
OLD = [
    ("Pong-v0", (2, 5), 0.25),
    ("Pong-v3", (2, 5), 0.0),
    ("PongDeterministic-v0", 4, 0.25),
    ("PongDeterministic-v3", 4, 0.0),
    ("PongDeterministic-v4", 4, 0.0),
    ("PongNoFrameskip-v3", 1, 0.0),
    ("PongNoFrameskip-v4", 1, 0.0),
    ("BreakoutDeterministic-v3", 4, 0.0),
    ("SpaceInvadersDeterministic-v3", 3, 0.0),
    ("SpaceInvaders-v3", (2, 5), 0.0),
]


@pytest.mark.parametrize(("name", "frameskip", "sticky"), OLD)
def test_ids_of_universe_s_time_skip_frames_and_repeat_actions_as_then(name, frameskip, sticky):
    found = gym_ids.find(f"gym-core.{name}")
    assert found.gym_id.startswith("ALE/")
    assert found.kwargs["frameskip"] == frameskip
    assert found.kwargs["repeat_action_probability"] == sticky


@pytest.mark.parametrize(
    ("name", "fps", "is_sync"),
    [
        ("Pong-v3", 60, False),
        ("Pong30FPS-v3", 30, False),
        ("PongSlow-v0", 15, False),
        ("PongSync-v3", 60, True),
        ("PongDeterministicSlow-v3", 15, False),
        ("PongDeterministicSync-v3", 60, True),
    ],
)
def test_variants_have_universe_s_rates(name, fps, is_sync):
    found = gym_ids.find(name)
    assert (found.fps, found.is_sync) == (fps, is_sync)


def test_each_game_of_the_table_is_one_that_the_emulator_has_today():
    import ale_py

    gymnasium.register_envs(ale_py)
    assert len(TABLE["atari"]["games"]) == 62
    for game in TABLE["atari"]["games"]:
        assert f"ALE/{game}-v5" in gymnasium.registry


def frames(env: Any) -> int:
    return int(env.unwrapped.ale.getFrameNumber())


def rollout(name: str, seed: int, steps: int = 150) -> tuple[bytes, float, list[int]]:
    env = gym_ids.make(name)
    env.reset(seed=seed)
    draw = np.random.default_rng(5)
    total, taken = 0.0, []
    for _ in range(steps):
        before = frames(env)
        observation, reward, *_ = env.step(int(draw.integers(env.action_space.n)))
        taken.append(frames(env) - before)
        total += float(reward)
    env.close()
    return observation.tobytes(), total, taken


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("PongDeterministic-v3", {4}),
        ("PongNoFrameskip-v3", {1}),
        ("Pong-v3", {2, 3, 4}),
        ("SpaceInvadersDeterministic-v3", {3}),
    ],
)
def test_a_step_takes_as_many_frames_as_the_table_says(name, taken):
    assert set(rollout(name, seed=1)[2]) == taken


def test_no_action_is_sticky_so_that_seeds_make_no_difference():
    first = rollout("PongDeterministic-v3", seed=1)
    assert rollout("PongDeterministic-v3", seed=1) == first
    assert rollout("PongDeterministic-v3", seed=2) == first
    assert rollout("PongDeterministic-v0", seed=2) != first


def test_pong_has_its_six_actions_and_keys():
    facts = gym_ids.facts("gym-core.PongDeterministic-v3")
    assert facts.size_px == (160, 210)
    assert facts.key_map.actions == (
        (),
        ("z",),
        ("ArrowRight",),
        ("ArrowLeft",),
        ("ArrowRight", "z"),
        ("ArrowLeft", "z"),
    )


def test_without_the_emulator_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    for name in ("PongDeterministic-v3", "ALE/Pong-v5"):
        with pytest.raises(ConfigError, match=r"pip install 'raygym\[atari\]'"):
            gym_ids.find(name)


def test_what_gymnasium_knows_is_known():
    assert gym_ids.find("gym-core.CartPole-v1") == gym_ids.find("CartPole-v1")
    assert gym_ids.find("CartPole-v1").gym_id == "CartPole-v1"
    assert not gym_ids.find("CartPole-v1").is_sync


def test_any_id_has_one_that_waits_for_the_commit_key():
    found = gym_ids.find("CartPoleSync-v1")
    assert (found.gym_id, found.is_sync) == ("CartPole-v1", True)


@pytest.mark.parametrize("name", ["Nope-v0", "", "Sync-v0", "NopeSync-v1", "CartPole-v99"])
def test_what_nobody_knows_is_refused_by_name(name):
    with pytest.raises(ConfigError, match=f"unknown environment gym-core.{name}"):
        gym_ids.find(name)


def test_a_package_before_the_id_is_imported():
    found = gym_ids.find("gym-core.tests.support.scripted_gym:raygym_tests/ScriptedSync-v0")
    assert (found.gym_id, found.is_sync) == ("raygym_tests/Scripted-v0", True)


def test_nobody_looks_into_the_registry_while_a_package_adds_to_it(monkeypatch):
    others: list[threading.Thread] = []

    def add(_module: str) -> None:
        others.append(threading.Thread(target=gym_ids.find, args=("CartPole-v1",), daemon=True))
        others[0].start()
        others[0].join(0.2)
        assert others[0].is_alive()

    monkeypatch.setattr(gym_ids.importlib, "import_module", add)
    assert gym_ids.find("a_package:CartPole-v1").gym_id == "CartPole-v1"
    others[0].join(20)
    assert not others[0].is_alive()


@pytest.mark.parametrize("module", ["no_such_package", "a:b", ".", "a b"])
def test_a_package_that_cannot_be_imported_is_refused(module):
    with pytest.raises(ConfigError, match="cannot be imported"):
        gym_ids.find(f"gym-core.{module}:Its-v0")


class Painter(gymnasium.Env[Any, Any]):
    """Shows a picture of a given shape."""

    def __init__(self, shape: Any, fps: Any = None, render_mode: str | None = None) -> None:
        self.action_space = gymnasium.spaces.Discrete(2)
        self.observation_space = gymnasium.spaces.Discrete(1)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": fps}
        self.render_mode = render_mode
        self._shape = shape

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        if self._shape == "raise":
            raise RuntimeError("no paint")
        return 0, {}

    def render(self) -> Any:
        return None if self._shape is None else np.zeros(self._shape, np.uint8)


@pytest.fixture
def painter():
    """Returns a function that registers a Painter and returns its facts."""
    names = []

    def facts(shape: Any, **kwargs: Any) -> gym_ids.GymFacts:
        name = f"RaygymPainter{len(names)}-v0"
        names.append(name)
        gymnasium.register(
            name, lambda **given: Painter(shape, **{**kwargs, **given}), max_episode_steps=600
        )
        return gym_ids.facts(name)

    gym_ids.facts.cache_clear()
    yield facts
    for name in names:
        del gymnasium.registry[name]
    gym_ids.facts.cache_clear()


@pytest.mark.parametrize(
    ("shape", "size_px"),
    [
        ((210, 160, 3), (160, 210)),
        ((752, 1024, 3), (1024, 752)),
        ((1504, 1000, 3), (500, 752)),
        ((100, 2048, 3), (1024, 50)),
    ],
)
def test_pictures_that_do_not_fit_are_scaled_down(painter, shape, size_px):
    assert painter(shape).size_px == size_px


@pytest.mark.parametrize("shape", [None, (3,), (4, 4), (4, 4, 1), (0, 4, 3), "raise"])
def test_what_shows_no_picture_is_refused(painter, shape):
    with pytest.raises(ConfigError, match=r"it renders no picture|its first picture failed"):
        painter(shape)


@pytest.mark.parametrize(
    ("said", "fps"), [(50, 50), (None, 30), (0, 30), (240, 60), ("x", 30), (0.5, 0.5)]
)
def test_the_rate_is_the_environment_s_own_within_reason(painter, said, fps):
    facts = painter((4, 4, 3), fps=said)
    assert facts.fps == fps
    assert facts.max_episode_s == min(3600, 600 / fps)


def test_the_catalog_makes_up_the_spec_of_any_gym_core_id():
    catalog = load_catalog()
    spec = catalog.env("gym-core.CartPole-v1")
    assert (spec.id, spec.runtime, spec.fps) == ("gym-core.CartPole-v1", "gym-core", 50)
    assert spec.region == Region(0, 0, 600, 400)
    assert spec.actions == (("ArrowLeft",), ())
    assert spec.max_episode_s == 10
    assert catalog.runtime("gym-core").screen_px == gym_ids.SCREEN_PX
    assert "lockstep" in catalog.runtime("gym-core").modes


def test_the_catalog_refuses_an_id_that_gymnasium_does_not_know():
    with pytest.raises(ConfigError, match=r"unknown environment gym-core\.Nope-v0"):
        load_catalog().env("gym-core.Nope-v0")


def test_a_broken_argument_is_a_clear_error():
    with pytest.raises(ConfigError, match="it cannot be made"):
        gym_ids.make("CartPole-v1", colour="red")
