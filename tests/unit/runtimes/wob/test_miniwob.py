from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from raygym.errors import MissingDependency
from raygym.runtimes.wob import miniwob

ENTRY = Path("miniwob", "html", "core", "core.js")


def put_pages(folder: Path) -> None:
    (folder / ENTRY).parent.mkdir(parents=True)
    (folder / ENTRY).write_text("var core = {};")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RAYGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(miniwob.FOLDER_VARIABLE, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def pip(monkeypatch) -> list[list[str]]:
    """Stands in for pip, and puts the pages where it is told to."""
    commands: list[list[str]] = []

    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        put_pages(Path(command[command.index("--target") + 1]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_absent_pages_are_an_error_that_names_the_command(cache):
    with pytest.raises(MissingDependency, match=r"python -m raygym\.runtimes\.wob\.miniwob") as it:
        miniwob.pages_dir()
    assert str(cache) in str(it.value)


def test_a_folder_that_the_variable_names_is_taken_instead_of_the_cache(tmp_path, monkeypatch):
    put_pages(tmp_path / "image")
    monkeypatch.setenv(miniwob.FOLDER_VARIABLE, str(tmp_path / "image"))
    assert miniwob.pages_dir() == tmp_path / "image" / "miniwob" / "html"


def test_the_pages_are_installed_once_without_what_they_require(cache, pip):
    folder = miniwob.install()
    assert folder == cache / f"miniwob-{miniwob.VERSION}"
    assert miniwob.install() == folder
    (command,) = pip
    assert "--no-deps" in command
    assert miniwob.pages_dir() == folder / "miniwob" / "html"
    assert list(cache.iterdir()) == [folder]


def test_another_process_may_have_installed_them_meanwhile(cache, pip, monkeypatch):
    folder = cache / f"miniwob-{miniwob.VERSION}"
    original = miniwob.fetch

    def slow_fetch(command: list[str], **options: str) -> str:
        said = original(command, **options)
        put_pages(folder)
        return said

    monkeypatch.setattr(miniwob, "fetch", slow_fetch)
    assert miniwob.install() == folder
    assert list(cache.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (subprocess.CalledProcessError(1, ["pip"], stderr="No module named pip"), "named pip"),
        (subprocess.TimeoutExpired(["pip"], 300), "reachable"),
    ],
)
def test_a_pip_that_fails_is_an_error_with_its_words(cache, monkeypatch, capsys, error, words):
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(MissingDependency, match=words):
        miniwob.install()
    assert miniwob.main() == 1
    assert "MissingDependency" in capsys.readouterr().err
    assert list(cache.iterdir()) == []
