"""The committed SWFs are what Haxe makes of the sources beside them."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build_games", ROOT / "scripts/build_games.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def games_dir(build, tmp_path):
    """A copy of the games that a test may change."""
    return shutil.copytree(build.GAMES_DIR, tmp_path / "games")


def test_every_swf_is_up_to_date_with_its_sources(build, capsys):
    assert build.main(["--check"]) == 0
    assert capsys.readouterr().out.count("\n") == len(build.GAMES)


def test_a_changed_source_is_found(build, games_dir, capsys):
    source = games_dir / "NeonRace" / "Race.hx"
    source.write_text(source.read_text().replace("PULL = 0.00", "PULL = 0.01"))
    assert build.main(["--check"], games_dir) == 1
    assert "run scripts/build_games.py" in capsys.readouterr().err


def test_a_changed_swf_is_found_though_its_stamp_is_right(build, games_dir):
    path = games_dir / "DuskDrive" / "DuskDrive.swf"
    body = build.unpack(path.read_bytes(), path)
    assert b"raygymScore" in body
    path.write_bytes(build.pack(body.replace(b"raygymScore", b"raygymSkore")))
    with pytest.raises(build.BuildError, match="differs from what Haxe"):
        build.check("DuskDrive", games_dir)


def test_two_builds_are_the_same_byte_for_byte(build, games_dir):
    first = build.compile_game("NeonRace", games_dir)
    assert build.compile_game("NeonRace", games_dir) == first


def test_with_another_compiler_sources_are_compared_and_compiled(build, games_dir, monkeypatch):
    version = build.haxe_version()
    monkeypatch.setattr(build, "haxe_version", lambda: "99.0")
    assert f"Haxe {version} then" in build.check("NeonRace", games_dir)


def test_an_error_in_a_source_shows_the_compilers_message(build, games_dir, capsys):
    (games_dir / "DuskDrive" / "Main.hx").write_text("class Main { static function main() x; }")
    assert build.main([], games_dir) == 1
    message = capsys.readouterr().err
    assert "DuskDrive does not compile" in message
    assert "Main.hx:1" in message


def test_a_swf_from_elsewhere_is_refused(build, games_dir):
    (games_dir / "NeonRace" / "NeonRace.swf").write_bytes(b"FWS\x0b" + bytes(20))
    with pytest.raises(build.BuildError, match="expected a compressed SWF"):
        build.check("NeonRace", games_dir)


def test_without_haxe_the_message_says_how_to_get_it(build, games_dir, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(build.BuildError, match="apt-get install haxe"):
        build.compile_game("NeonRace", games_dir)
