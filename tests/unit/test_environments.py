from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

import raygym
from raygym.catalog import load_catalog
from raygym.config import TlsFiles
from raygym.core import Remote
from raygym.environments import RemoteNeeds, make_backend
from raygym.environments.backends import resolve_backend
from raygym.environments.lockstep import lockstep_backend
from raygym.environments.settings import Settings
from raygym.errors import ConfigError
from raygym.remote_env.allocator_backend import AllocatorBackend
from raygym.remote_env.fake_backend import FakeBackend
from raygym.remote_env.lockstep_env import LockstepEnv
from raygym.remote_env.realtime_env import RealtimeEnv
from raygym.remote_env.static_backend import StaticBackend
from tests.unit.remote_env.fakes import FakeRemotes

CATCH = "test.Catch-v0"
NEON = "flashgames.NeonRace-v0"


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"remotes": 2}, "make_vec"),
        ({"remotes": "vnc://h+15900"}, "has no screen"),
        ({"remotes": "vnc://h:5900+15900", "backend": "process"}, "starts remotes itself"),
        ({"backend": "static"}, "needs addresses"),
        ({"backend": "allocator"}, "needs that of one, as in remotes='http://TOKEN@"),
        ({"remotes": "http://a", "backend": "process"}, "starts remotes itself"),
        ({"remotes": "http://a", "backend": "static"}, "needs addresses"),
        ({"remotes": "http://a", "backend": FakeRemotes()}, "not both"),
        ({"remotes": "http://a?n=2"}, "make_vec"),
        ({"remotes": "http://a?x=2"}, "expected n, cpu, address, token"),
        ({"backend": "cloud"}, "expected auto, docker, process, fake, static, allocator or local"),
        ({"backend": "docker"}, "catch has no image"),
        ({"remotes": "vnc://h:5900+15900", "backend": FakeRemotes()}, "not both"),
        ({"actions": "joystick"}, "expected discrete or events"),
        ({"vnc_kwargs": {"encodng": "raw"}}, "known: encoding"),
        ({"vnc_kwargs": {"encoding": "hextile"}}, "expected tight, zrle or raw"),
        ({"fps": 0}, "fps"),
        ({"render_mode": "human"}, "render_mode"),
        ({"start_timeout_s": 0}, "start_timeout_s"),
    ],
)
def test_make_refuses_what_makes_no_sense(settings: dict[str, object], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        raygym.make(CATCH, **settings)  # type: ignore[arg-type]


def test_an_unknown_environment_is_told_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"test\.Catch-v0"):
        raygym.make("test.Ctch-v0")


def test_making_starts_nothing() -> None:
    backend = FakeRemotes()
    env = raygym.make(CATCH, backend=backend)  # type: ignore[arg-type]
    assert env.remotes_started == 0
    env.close()
    assert not backend.is_closed, "a Backend that was passed in belongs to the caller"


def test_an_environment_has_the_spaces_and_the_rate_of_the_catalog() -> None:
    env = raygym.make(CATCH, backend="fake")
    assert env.observation_space.shape == (84, 84, 3)
    assert env.action_space.n == 3
    assert env.fps == 50
    assert raygym.make(CATCH, backend="fake", fps=5).fps == 5


def test_several_addresses_make_a_vector_of_as_many() -> None:
    env = raygym.make_vec(CATCH, remotes="vnc://a:5900+15900,b:5900+15900", client_id="me")
    assert env.num_envs == 2
    assert env.observation_space.shape == (2, 84, 84, 3)
    env.close()


def test_the_variable_says_how_many_remotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYGYM_REMOTES", "3")
    env = raygym.make_vec(CATCH, backend="fake")
    assert env.num_envs == 3
    env.close()


def test_a_backend_is_made_by_its_name() -> None:
    remote = Remote(id="a", runtime="", vnc=None, rewarder=None)
    needs = RemoteNeeds(runtime="catch", env_id=CATCH)
    assert isinstance(make_backend("static", needs, remotes=[remote]), StaticBackend)
    assert isinstance(make_backend("fake", needs), FakeBackend)
    with pytest.raises(
        ConfigError, match="expected auto, docker, process, fake, static, allocator or local"
    ):
        make_backend("cloud", needs)  # type: ignore[arg-type]


def test_addresses_and_backends_that_start_remotes_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="starts remotes itself"):
        resolve_backend("docker", "catch", has_addresses=True)
    with pytest.raises(ConfigError, match="needs addresses"):
        resolve_backend("static", "catch", has_addresses=False)


def test_an_allocator_makes_as_many_as_it_is_told_or_as_are_asked_for() -> None:
    for remotes, num_envs, count in (("http://a?n=3", None, 3), ("http://a", 2, 2)):
        env = raygym.make_vec(CATCH, num_envs, remotes=remotes)
        assert env.num_envs == count
        env.close()
    with pytest.raises(ConfigError, match=r"num_envs=2 and remotes='http://a\?n=3' disagree"):
        raygym.make_vec(CATCH, 2, remotes="http://a?n=3")


def test_an_allocator_is_told_what_is_played_and_who_owns_time() -> None:
    settings = Settings(env_id="gym-core.CartPole-v1", remotes="http://a", start_timeout_s=7)
    backend, is_own = lockstep_backend(settings)
    assert isinstance(backend, AllocatorBackend)
    assert is_own
    backend.close()
    choice = resolve_backend(None, "catch", has_addresses=False, has_allocator=True)
    assert choice.name == "allocator"
    tls = TlsFiles(ca=Path("ca.pem"))
    private = Settings(env_id=CATCH, remotes="https://a", tls=tls)
    assert private.owner_of_time() == "realtime"
    assert private.allocator is not None
    assert private.allocator.tls == tls
    with pytest.raises(ConfigError, match="tls: belongs to mode='lockstep'"):
        raygym.make(CATCH, remotes="http://a", tls=tls)
    assert settings.owner_of_time() == "lockstep"
    with pytest.raises(ConfigError, match="made here and has no remote"):
        raygym.make("CartPole-v1", remotes="http://a")


def test_what_nobody_named_is_named_by_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYGYM_BACKEND", "fake")
    assert resolve_backend(None, "catch", has_addresses=False).name == "fake"
    assert resolve_backend("process", "catch", has_addresses=False).name == "process"
    assert resolve_backend(None, "catch", has_addresses=True).name == "static"


def test_auto_takes_processes_where_there_is_no_image_and_says_why() -> None:
    choice = resolve_backend("auto", "catch", has_addresses=False)
    assert str(choice) == "process (it has no image)"


def test_processes_play_one_gymnasium_environment_and_containers_any() -> None:
    needs = RemoteNeeds(runtime="gym-core", env_id="gym-core.CartPole-v1", mode="lockstep")
    assert needs.process_arguments == ["--mode", "lockstep", "--env", "gym-core.CartPole-v1"]
    assert needs.variant == ("--mode", "lockstep", "--any-env")
    flash = RemoteNeeds(runtime="flashgames", env_id="flashgames.NeonRace-v0")
    assert flash.process_arguments == ["--mode", "realtime"]
    assert flash.variant == ("--mode", "realtime")


def test_every_environment_is_registered_once_and_without_wrappers_that_break_real_time() -> None:
    spec = gymnasium.spec(CATCH)
    raygym.register_all()
    assert gymnasium.spec(CATCH) is spec
    assert spec.disable_env_checker
    assert spec.nondeterministic
    assert spec.max_episode_steps is None
    assert gymnasium.spec("flashgames.NeonRace-v0").kwargs["env_id"] == "flashgames.NeonRace-v0"


def test_importing_raygym_does_not_import_what_drives_environments() -> None:
    program = (
        "import sys, raygym\n"
        "print(sorted({'cv2', 'websockets', 'ray', 'torch'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_malformed_game_is_logged_at_import_and_raised_by_make(
    tmp_path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "game.yaml").write_text("id: 5")
    monkeypatch.setenv("RAYGYM_GAMES", str(tmp_path))
    raygym.register_all()
    assert "no environment is registered" in caplog.text
    with pytest.raises(ConfigError, match=r"game\.yaml"):
        raygym.make(CATCH)


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = raygym.nonsense


@pytest.mark.parametrize(
    ("env_id", "settings", "part"),
    [
        ("test.Catch-v0", {"mode": "lockstep"}, "test.Catch-v0 has realtime, got 'lockstep'"),
        (NEON, {"mode": "turns"}, "expected lockstep or realtime, got 'turns'"),
        (NEON, {"frame_skip": 4}, "frame_skip: belongs to mode='lockstep'"),
        (NEON, {"env_kwargs": {"a": 1}}, "env_kwargs: belongs to mode='lockstep'"),
        (NEON, {"mode": "lockstep", "fps": 10}, "fps: belongs to mode='realtime'"),
        (NEON, {"mode": "lockstep", "actions": "events"}, "actions: belongs to mode='realtime'"),
        (NEON, {"mode": "lockstep", "frame_skip": 0}, "frame_skip"),
        (NEON, {"mode": "lockstep", "backend": "fake"}, "'fake' has no lock-step"),
        (NEON, {"mode": "lockstep", "remotes": "vnc://h:5900"}, "lock-step needs grpc://"),
        (NEON, {"mode": "realtime", "remotes": "grpc://h:1"}, "has no screen"),
        (NEON, {"mode": "lockstep", "step_timeout_s": 0}, "step_timeout_s"),
    ],
)
def test_what_does_not_go_with_the_mode_is_refused(env_id, settings, part) -> None:
    with pytest.raises(ConfigError, match=re.escape(part)):
        raygym.make(env_id, **settings)


def test_the_mode_follows_from_the_addresses_and_the_runtime() -> None:
    realtime = raygym.make(NEON, remotes="vnc://h:5900+15900")
    assert isinstance(realtime, RealtimeEnv)
    lockstep = raygym.make(NEON, remotes="grpc://127.0.0.1:1", frame_skip=5)
    assert isinstance(lockstep, LockstepEnv)
    assert lockstep.metadata["render_fps"] == 5
    for env in (realtime, lockstep):
        assert env.observation_space.shape == (480, 640, 3)
        assert env.action_space.n == len(load_catalog([]).env(NEON).actions)
        env.close()


def test_a_lockstep_env_scales_as_a_realtime_env_does() -> None:
    observation = raygym.ObservationConfig(height_px=64, width_px=96, is_grey=True)
    env = raygym.make(NEON, mode="lockstep", observation=observation)
    assert env.observation_space.shape == (64, 96, 1)
    env.close()


def test_plaintext_to_another_machine_is_refused_by_the_first_reset() -> None:
    env = raygym.make(NEON, remotes="grpc://example.invalid:1")
    with pytest.raises(ConfigError, match="is_insecure"):
        env.reset()
    env.close()
