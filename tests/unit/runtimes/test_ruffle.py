from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from raygym.errors import MissingDependency, RaygymError
from raygym.runtimes.flashgames import ruffle
from raygym.runtimes.npm import check

FILES = {
    "ruffle.js": b"player",
    "core.wasm": b"wasm",
    "ruffle.js.map": b"map",
    "LICENSE_MIT": b"ok",
}


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RAYGYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_package(path: Path, files: dict[str, bytes] = FILES) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("package/link.js")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        outside = tarfile.TarInfo("package/../../outside.js")
        outside.size = 1
        archive.addfile(outside, io.BytesIO(b"!"))


@pytest.fixture
def npm(monkeypatch) -> list[list[str]]:
    """An npm that packs FILES; returns the commands that it was given."""
    commands: list[list[str]] = []

    def run(command, *, cwd, **kwargs):
        commands.append(command)
        package = Path(cwd, "ruffle.tgz")
        write_package(package)
        digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
        monkeypatch.setattr(ruffle, "INTEGRITY", f"sha512-{digest}")
        return subprocess.CompletedProcess(command, 0, json.dumps([{"filename": "ruffle.tgz"}]), "")

    monkeypatch.setattr(ruffle.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_an_absent_player_is_named_with_the_command_that_brings_it(cache):
    with pytest.raises(MissingDependency, match=r"python -m raygym.runtimes.flashgames.ruffle"):
        ruffle.ruffle_dir()


def test_installing_unpacks_the_plain_files_but_for_source_maps(cache, npm):
    folder = ruffle.install()
    assert folder == ruffle.ruffle_dir()
    assert folder.parent == cache
    names = {path.name for path in folder.iterdir()}
    assert names == {"ruffle.js", "core.wasm", "LICENSE_MIT", "outside.js"}
    assert (folder / "ruffle.js").read_bytes() == b"player"
    assert list(cache.iterdir()) == [folder], "nothing half done is left behind"


def test_a_second_installation_asks_nobody(cache, npm):
    first = ruffle.install()
    assert ruffle.install() == first
    assert len(npm) == 1
    assert f"{ruffle.PACKAGE}@{ruffle.VERSION}" in npm[0]


def test_another_process_that_was_faster_wins(cache, npm, monkeypatch):
    unpack = ruffle.unpack

    def unpack_late(package, folder):
        unpack(package, folder)
        faster = cache / f"ruffle-{ruffle.VERSION}"
        faster.mkdir()
        (faster / "ruffle.js").write_bytes(b"faster")

    monkeypatch.setattr(ruffle, "unpack", unpack_late)
    assert (ruffle.install() / "ruffle.js").read_bytes() == b"faster"


def test_a_package_that_is_not_the_expected_one_is_refused(tmp_path):
    package = tmp_path / "ruffle.tgz"
    package.write_bytes(b"something else")
    with pytest.raises(
        RaygymError, match=r"ruffle.tgz: expected integrity .*nothing was installed"
    ):
        check(package, ruffle.INTEGRITY)


def test_without_npm_the_message_says_how_to_get_it(cache, monkeypatch):
    monkeypatch.setattr(ruffle.shutil, "which", lambda name: None)
    with pytest.raises(MissingDependency, match=r"apt-get install .* npm"):
        ruffle.install()


def test_what_npm_says_is_passed_on(cache, monkeypatch, capsys):
    def run(command, **kwargs):
        raise subprocess.CalledProcessError(1, command, "", "npm error: no such registry")

    monkeypatch.setattr(ruffle.shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", run)
    assert ruffle.main() == 1
    assert "no such registry" in capsys.readouterr().err


def test_the_command_prints_one_line_with_the_folder(cache, npm, capsys):
    assert ruffle.main() == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert str(cache) in out
