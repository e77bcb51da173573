from __future__ import annotations

from pathlib import Path

import pytest

from raygym.catalog import load_catalog
from raygym.errors import ConfigError
from raygym.own_runtimes import load_runtime, own_runtimes, task_class
from raygym.runtimes.host import HostConfig
from raygym.runtimes.own import make_own_host

GOOD = """
name: snake
image: example/snake
task: snake.py:Snake
screen_px: [320, 240]
memory_mib: 256
envs:
  - id: own.Snake-v0
    fps: 25
    actions: ["", "ArrowLeft", "ArrowRight Up"]
    max_episode_s: 60
"""
PROGRAM = "class Snake:\n    pass\n"


def folder(path: Path, text: str = GOOD, program: str = PROGRAM) -> Path:
    path.mkdir(exist_ok=True)
    (path / "runtime.yaml").write_text(text, encoding="utf-8")
    (path / "snake.py").write_text(program, encoding="utf-8")
    return path


def test_a_runtime_and_its_environments_are_read(tmp_path: Path):
    runtime, [spec] = load_runtime(folder(tmp_path / "a") / "runtime.yaml")
    assert (runtime.name, runtime.image, runtime.memory_mib) == ("snake", "example/snake", 256)
    assert runtime.task == f"{tmp_path}/a/snake.py:Snake"
    assert (runtime.screen_px, runtime.modes) == ((320, 240), ("realtime",))
    assert (spec.id, spec.runtime, spec.title) == ("own.Snake-v0", "snake", "own.Snake-v0")
    assert (spec.region.width, spec.region.height) == (320, 240)
    assert spec.actions == ((), ("ArrowLeft",), ("ArrowRight", "Up"))


def test_a_folder_of_folders_is_searched_and_the_catalog_has_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder(tmp_path / "a")
    monkeypatch.setenv("RAYGYM_RUNTIMES", str(tmp_path))
    catalog = load_catalog()
    assert catalog.env("own.Snake-v0").runtime == "snake"
    assert catalog.runtime("snake").image == "example/snake"


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("name: snake", "name: Snake!", "name: expected small letters"),
        ("task: snake.py:Snake", "task: other.py:Snake", "with the file beside it"),
        ("task: snake.py:Snake", "task: snake", "expected file.py:Class"),
        ("memory_mib", "memory", "memory: unknown"),
        ("screen_px: [320, 240]", "", "screen_px: missing"),
        ("own.Snake-v0", "Snake", "expected an EnvId"),
        ("fps: 25", "fps: fast", "own.Snake-v0: could not convert"),
        ("    actions:", "    region: [1]\n    actions:", "own.Snake-v0"),
        ("    fps: 25\n", "", "fps: missing"),
        ("envs:", "others:", "envs: expected a list"),
        (GOOD, "[1]", "expected a mapping"),
        (GOOD, "{", "cannot be read as YAML"),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, old: str, new: str, part: str):
    path = folder(tmp_path / "a", GOOD.replace(old, new)) / "runtime.yaml"
    with pytest.raises(ConfigError) as caught:
        load_runtime(path)
    assert str(path) in caught.value.message
    assert part in caught.value.message


def test_a_folder_without_a_runtime_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no runtime\.yaml in"):
        own_runtimes([tmp_path])


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="'snake' is there twice"):
        own_runtimes([folder(tmp_path / "a"), folder(tmp_path / "b")])


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("name: snake", "name: catch", "'catch' is there already"),
        ("own.Snake-v0", "test.Catch-v0", "'test.Catch-v0' is already taken"),
        ("own.Snake-v0", "gym-core.Snake-v0", "'gym-core.Snake-v0' is already taken"),
    ],
)
def test_built_in_names_are_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, part: str
):
    monkeypatch.setenv("RAYGYM_RUNTIMES", str(folder(tmp_path / "a", GOOD.replace(old, new))))
    with pytest.raises(ConfigError, match=part):
        load_catalog()


@pytest.mark.parametrize("program", ["import nothing_like_this\n", "class Other:\n    pass\n"])
def test_a_class_that_cannot_be_imported_is_named(tmp_path: Path, program: str):
    runtime, _ = load_runtime(folder(tmp_path / "a", program=program) / "runtime.yaml")
    with pytest.raises(ConfigError, match=r"snake: the task .* cannot be imported"):
        task_class(runtime)


def test_a_class_that_is_no_task_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAYGYM_RUNTIMES", str(folder(tmp_path / "a")))
    with pytest.raises(ConfigError, match="must be a class derived from"):
        make_own_host("snake", HostConfig(directory=tmp_path, password="x"))
