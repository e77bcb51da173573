from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from raygym.errors import ConfigError
from raygym.runtimes.lockstep.answers import Refused
from raygym.runtimes.lockstep.factories import pickled, resolve
from raygym.wire.proto import raygym_v1_pb2 as pb
from tests.support.lockstep import HERE, Trouble, trouble

ROOT = Path(__file__).parents[4]


def test_an_id_of_gymnasium_is_made_with_kwargs():
    factory, ids = resolve("CartPole-v1")
    env = pickle.loads(pickled(factory))("CartPole-v1", {"render_mode": "rgb_array"})
    assert (ids, env.render_mode) == (("CartPole-v1",), "rgb_array")
    env.close()


def test_several_ids_are_known_by_their_names():
    assert resolve(["CartPole-v1", "Acrobot-v1"])[1] == ("CartPole-v1", "Acrobot-v1")


def test_any_id_is_looked_up_when_it_is_asked_for():
    factory, ids = resolve("*")
    assert ids == ("*",)
    made = pickle.loads(pickled(factory))
    made("CartPole-v1", {}).close()
    with pytest.raises(Refused, match=r"unknown environment gym-core\.Nope-v0") as caught:
        made("Nope-v0", {})
    assert caught.value.code == pb.Error.NOT_FOUND


@pytest.mark.parametrize(
    "given", [trouble, Trouble, "tests.support.lockstep:trouble", f"{HERE}:trouble"]
)
def test_a_function_is_called_with_kwargs_wherever_it_is_named(given):
    factory, ids = resolve(given)
    env = pickle.loads(pickled(factory))("", {"length": 5})
    assert (ids, env.length, isinstance(env, gymnasium.Env)) == ((), 5, True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("NoSuchThing-v1", "NoSuchThing-v1"),
        ("no.such.module:make", "cannot be imported"),
        ("/no/such/file.py:make", "file"),
        ("tests.support.lockstep:nothing", "no function of that name"),
        ("nosuchmodule:Env-v1", "nosuchmodule"),
        ([], "at least one"),
        (["CartPole-v1", "NoSuchThing-v1"], "NoSuchThing"),
    ],
)
def test_what_is_not_there_is_a_config_error(given, words):
    with pytest.raises(ConfigError, match=words):
        resolve(given)


def test_what_cannot_be_pickled_says_what_to_do():
    factory, _ = resolve(lambda: Trouble())
    with pytest.raises(ConfigError, match="is_in_process"):
        pickled(factory)


def test_a_function_of_a_script_is_found_by_its_file(tmp_path):
    script = tmp_path / "play.py"
    script.write_text(
        "import pickle, sys\n"
        "from raygym.runtimes.lockstep.factories import pickled, resolve\n"
        "from tests.support.lockstep import Trouble\n"
        "def make(**kwargs): return Trouble(**kwargs)\n"
        "if __name__ == '__main__':\n"
        "    sys.stdout.buffer.write(pickled(resolve(make)[0]))\n"
    )
    done = subprocess.run(
        [sys.executable, script], env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    )
    env = pickle.loads(done.stdout)("", {"length": 9})
    assert env.length == 9
