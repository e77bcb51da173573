from __future__ import annotations

import json

import pytest

from raygym import cli, doctor


def test_envs_lists_every_environment_with_its_ceiling(capsys):
    assert cli.main(["envs"]) == 0
    out = capsys.readouterr().out
    assert "flashgames.NeonRace-v0" in out
    assert "640x480" in out


def test_envs_as_json_gives_the_actions(capsys):
    assert cli.main(["envs", "--json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["test.Catch-v0"]["actions"] == ["", "ArrowLeft", "ArrowRight"]


def test_a_broken_games_folder_is_one_clear_line_and_exit_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAYGYM_GAMES", str(tmp_path / "none"))
    assert cli.main(["envs"]) == 2
    assert "no game.yaml in" in capsys.readouterr().err


def test_doctor_s_exit_status_is_the_command_s(monkeypatch):
    monkeypatch.setattr(doctor, "main", lambda *, as_json: 1 if as_json else 0)
    assert cli.main(["doctor", "--json"]) == 1
    assert cli.main(["doctor"]) == 0


def test_an_unknown_verb_is_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["dance"])
    assert "dance" in capsys.readouterr().err
