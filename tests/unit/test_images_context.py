import base64
import hashlib
import importlib.metadata
import subprocess
import tarfile
import zipfile
from io import BytesIO

import pytest

import raygym
from raygym import __version__, images_context
from raygym.errors import ConfigError, MissingDependency
from raygym.images_context import DownloadFailed, Recipe


@pytest.fixture
def dockerfiles(monkeypatch, tmp_path):
    folder = tmp_path / "dockerfiles"
    folder.mkdir()
    (folder / "gym-core.Dockerfile").write_text("FROM scratch\n")
    (folder / "constraints.txt").write_text("numpy==2.4.6\n")
    monkeypatch.setattr(images_context, "DOCKERFILES", folder)
    return folder


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Notes each command, and makes one wheel in the folder that it names."""
    commands = []

    def run(command, **_):
        commands.append(command)
        folder = images_context.Path(command[command.index("--dest") + 1])
        folder.mkdir()
        (folder / "numpy-2.4.6.whl").write_bytes(b"wheel")

    monkeypatch.setattr(images_context.subprocess, "run", run)
    monkeypatch.setenv("RAYGYM_CACHE", str(tmp_path / "cache"))
    return commands


def content_of(runtime):
    with (
        images_context.pack(runtime, architecture="amd64") as packed,
        tarfile.open(fileobj=packed) as archive,
    ):
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}


def test_every_recipe_has_a_dockerfile_and_the_catalog_knows_its_image():
    from raygym.images import runtimes

    assert set(images_context.buildable()) == set(images_context.RECIPES) == set(runtimes())


def test_the_dockerfiles_at_the_top_are_those_of_the_package():
    top = images_context.Path(raygym.__file__).parents[1]
    for runtime in images_context.buildable():
        written = (top / "docker" / f"{runtime}.Dockerfile").read_text()
        assert images_context.dockerfile(runtime).read_text() == written
    constraints = (images_context.DOCKERFILES / "constraints.txt").read_text()
    assert constraints == (top / "constraints.txt").read_text()


def test_a_runtime_without_a_dockerfile_is_refused(dockerfiles):
    with pytest.raises(ConfigError, match=r"'wob' can be built\. Known: gym-core"):
        images_context.dockerfile("wob")


def test_the_wheel_is_the_same_twice_and_holds_this_code():
    wheel = images_context.wheel()
    assert wheel == images_context.wheel()
    with zipfile.ZipFile(BytesIO(wheel)) as archive:
        names = archive.namelist()
        source = images_context.Path(raygym.__file__).read_bytes()
        assert archive.read("raygym/__init__.py") == source
    near_end = ("__pycache__", "dockerfiles", "raygym/remote_env", "raygym/training", "raygym/cli")
    assert not [name for name in names if any(part in name for part in near_end)]
    assert f"raygym-{__version__}.dist-info/RECORD" in names


def test_the_wheels_record_fits_its_files(tmp_path):
    with zipfile.ZipFile(BytesIO(images_context.wheel())) as archive:
        archive.extractall(tmp_path)
    (found,) = importlib.metadata.distributions(name="raygym", path=[str(tmp_path)])
    assert found.version == __version__
    assert any("numpy" in line for line in found.requires)
    recorded = {entry.as_posix(): entry.hash for entry in found.files}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert set(recorded) == {path.relative_to(tmp_path).as_posix() for path in files}
    for path in files:
        if path.name != "RECORD":
            digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest())
            said = recorded[path.relative_to(tmp_path).as_posix()]
            assert (said.mode, said.value) == ("sha256", digest.decode().rstrip("="))


@pytest.mark.parametrize("name", ["gym-core.Dockerfile", "constraints.txt"])
def test_the_sources_digest_changes_with_what_the_image_is_made_from(dockerfiles, name):
    before = images_context.source_digest("gym-core")
    assert before == images_context.source_digest("gym-core")
    (dockerfiles / name).write_text("something = else\n")
    assert images_context.source_digest("gym-core") != before


def test_the_sources_digest_changes_with_the_code(dockerfiles, monkeypatch):
    before = images_context.source_digest("gym-core")
    monkeypatch.setattr(images_context, "_shipped", lambda: iter([("raygym/x.py", b"1")]))
    assert images_context.source_digest("gym-core") != before


def test_the_context_holds_dockerfile_requirements_wheels_and_raygym(dockerfiles, pip):
    content = content_of("gym-core")
    assert content["Dockerfile"] == b"FROM scratch\n"
    assert content["wheels/numpy-2.4.6.whl"] == b"wheel"
    assert content[f"raygym/raygym-{__version__}-py3-none-any.whl"] == images_context.wheel()
    requirements = content["wheels/requirements.txt"].decode().splitlines()
    assert {"ale-py", "pygame"} < set(requirements)
    assert not [line for line in requirements if line.startswith(("ray", "torch", "pytest"))]


def test_the_context_holds_what_the_recipe_installs(dockerfiles, pip, monkeypatch, tmp_path):
    player = tmp_path / "player-1.0"
    (player / "inner").mkdir(parents=True)
    (player / "inner" / "player.js").write_bytes(b"play()")
    recipe = Recipe(install=lambda: player)
    monkeypatch.setitem(images_context.RECIPES, "gym-core", recipe)
    assert content_of("gym-core")["cache/player-1.0/inner/player.js"] == b"play()"


def test_wheels_are_fetched_once_for_the_processor_and_python_of_the_image(dockerfiles, pip):
    first = images_context.wheelhouse(["numpy>=2"], architecture="arm64")
    assert images_context.wheelhouse(["numpy>=2"], architecture="arm64") == first
    (command,) = pip
    assert command[command.index("--python-version") + 1] == "3.11"
    assert "manylinux_2_28_aarch64" in command
    assert not [word for word in command if "x86_64" in word]
    assert command[-3:] == ["-c", str(dockerfiles / "constraints.txt"), "numpy>=2"]


def test_wheels_are_fetched_anew_when_the_pinned_versions_change(dockerfiles, pip):
    first = images_context.wheelhouse(["numpy>=2"], architecture="amd64")
    other = images_context.wheelhouse(["pygame"], architecture="amd64")
    (dockerfiles / "constraints.txt").write_text("numpy==2.5.0\n")
    second = images_context.wheelhouse(["numpy>=2"], architecture="amd64")
    assert second != first
    assert [folder.is_dir() for folder in (first, second, other)] == [False, True, True]


def test_an_engine_with_other_processors_is_refused():
    with pytest.raises(ConfigError, match=r"'riscv64'; images are built for amd64 and arm64"):
        images_context.wheelhouse([], architecture="riscv64")


def test_what_pip_says_is_shown_when_it_fails(dockerfiles, pip, monkeypatch, tmp_path):
    def fail(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr="No matching distribution")

    monkeypatch.setattr(images_context.subprocess, "run", fail)
    with pytest.raises(DownloadFailed, match=r"exit code 1; .*\nNo matching distribution"):
        images_context.wheelhouse(["numpy"], architecture="amd64")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_fetch_that_takes_too_long_says_so(dockerfiles, pip, monkeypatch):
    def hang(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(images_context.subprocess, "run", hang)
    with pytest.raises(DownloadFailed, match="did not end within 900 s"):
        images_context.wheelhouse(["numpy"], architecture="amd64")


def test_without_pip_the_message_says_how_to_get_it(dockerfiles, pip, monkeypatch):
    monkeypatch.setattr(images_context.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match="python -m ensurepip"):
        images_context.wheelhouse(["numpy"], architecture="amd64")


def test_what_only_this_end_requires_is_not_in_the_image(dockerfiles, pip, monkeypatch):
    declared = ["numpy>=2", "docker>=7.1", "ray>=2; extra == 'train'"]
    monkeypatch.setattr(images_context.importlib.metadata, "requires", lambda _: declared)
    requirements = content_of("gym-core")["wheels/requirements.txt"].decode().splitlines()
    assert requirements == ["numpy>=2", "ale-py", "pygame"]


def test_raygym_that_is_not_installed_has_no_known_requirements(dockerfiles, monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(images_context.importlib.metadata, "requires", nothing)
    with pytest.raises(MissingDependency, match="pip install -e"):
        images_context.source_digest("gym-core")
