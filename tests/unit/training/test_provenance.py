from __future__ import annotations

import json
from pathlib import Path

import pytest

from raygym.training.config import TrainConfig
from raygym.training.provenance import HIDDEN, command, machine, plain, versions, without_secrets


def test_versions_and_machine_are_known():
    found = versions()
    assert {"raygym", "python", "torch", "ray", "numpy", "av"} <= set(found)
    assert all(found.values())
    here = machine()
    assert here["cores"] >= 1
    assert here["memory_gib"] > 0
    assert here["gpus"] == [] or isinstance(here["gpus"][0], str)
    json.dumps([found, here])


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (
            "vnc://h:5900?password=a%20b,vnc://k:5901",
            f"vnc://h:5900?password={HIDDEN},vnc://k:5901",
        ),
        ("http://tok:x@h:80/v1", f"http://{HIDDEN}@h:80/v1"),
        ("https://h:80?n=2&token=abc&x=1", f"https://h:80?n=2&token={HIDDEN}&x=1"),
        ("vnc://h:5900", "vnc://h:5900"),
        ("mail me@home", "mail me@home"),
    ],
)
def test_secrets_are_hidden_and_nothing_else(text: str, hidden: str):
    assert without_secrets(text) == hidden


def test_the_command_hides_them_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.orig_argv", ["/usr/bin/python3", "-m", "x", "--remotes=http://t@h"])
    assert command() == ["python3", "-m", "x", f"--remotes=http://{HIDDEN}@h"]


def test_settings_become_json_whatever_they_hold():
    config = TrainConfig(logdir=Path("runs/a"), minutes=2.0, crop=(0, 1, 2, 3))
    told = plain(config)
    assert told["logdir"] == "runs/a"
    assert told["crop"] == [0, 1, 2, 3]
    assert told["films"]["slots"] == [0]
    assert told["resume"] is None
    assert plain({"a": float("nan"), 1: {3}}) == {"a": None, "1": "{3}"}
    json.dumps(told, allow_nan=False)
