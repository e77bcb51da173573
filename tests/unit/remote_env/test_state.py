"""Where leases and remotes are kept."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from raygym.errors import ConfigError
from raygym.remote_env import state
from raygym.remote_env.state import remotes_directory, state_directory


def test_the_variable_goes_before_everything_else(tmp_path: Path):
    given = tmp_path / "mine"
    environ = {"RAYGYM_STATE": str(given), "XDG_RUNTIME_DIR": str(tmp_path)}
    assert state_directory(environ) == given


def test_the_runtime_directory_of_the_session_is_taken_where_there_is_one(tmp_path: Path):
    assert state_directory({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "raygym"


def test_a_runtime_directory_that_is_not_there_is_passed_over(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(state, "_SHARED_MEMORY", tmp_path)
    found = state_directory({"XDG_RUNTIME_DIR": str(tmp_path / "none")})
    assert found == tmp_path / f"raygym-{os.getuid()}"


def test_without_shared_memory_it_is_in_the_temporary_directory(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(state, "_SHARED_MEMORY", tmp_path / "none")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert state_directory({}) == tmp_path / f"raygym-{os.getuid()}"


def test_it_is_private_even_where_it_was_not_before(tmp_path: Path):
    given = tmp_path / "open"
    given.mkdir(mode=0o755)
    state_directory({"RAYGYM_STATE": str(given)})
    assert stat.S_IMODE(given.stat().st_mode) == 0o700


def test_a_link_in_its_place_is_refused(tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / "link"
    link.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match=r"RAYGYM_STATE: .*link is no directory"):
        state_directory({"RAYGYM_STATE": str(link)})


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        state_directory({"RAYGYM_STATE": str(tmp_path)})


def test_a_file_in_its_place_names_every_place_that_was_tried(tmp_path: Path, monkeypatch):
    (tmp_path / f"raygym-{os.getuid()}").write_text("")
    monkeypatch.setattr(state, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ConfigError, match=r"cannot be made.*RAYGYM_STATE"):
        state_directory({})


def test_remotes_have_a_private_directory_in_it(tmp_path: Path):
    assert remotes_directory(tmp_path) == remotes_directory(tmp_path) == tmp_path / "remotes"
    assert stat.S_IMODE((tmp_path / "remotes").stat().st_mode) == 0o700
