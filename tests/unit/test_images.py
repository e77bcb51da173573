import argparse
import gc
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from docker.errors import APIError, DockerException, ImageNotFound
from requests import Response
from requests.exceptions import ConnectionError as RequestsConnectionError

from raygym import __version__, images, images_context, images_engine
from raygym.catalog import load_catalog
from raygym.errors import ConfigError
from raygym.images_engine import BuildFailed, PullFailed
from raygym.remote_env.docker.errors import DiskFull, EngineFailed, EnginePermission, NoEngine

DIGEST = "sha256:" + "ab" * 32
TAG = f"raygym/gym-core:{__version__}"


class FakeEngine:
    """Has the images that were put into ``there``; says what a test tells it to say."""

    def __init__(self, *, says=(), there=None):
        self.says = list(says)
        self.there = {images.BASE: image(), **(there or {})}
        self.built = []
        self.pulled = []
        self.is_closed = False
        self.api = SimpleNamespace(build=self._build, pull=self._pull)
        self.images = SimpleNamespace(get=self._get, pull=self._pull_base)

    def version(self):
        return {"Arch": "amd64"}

    def close(self):
        self.is_closed = True

    def _build(self, **given):
        self.built.append({**given, "context": given["fileobj"].read()})
        yield from self._said()
        self.there[given["tag"]] = image(revision=given["buildargs"]["SOURCE"])

    def _pull_base(self, name):
        if self.says:
            raise self.says[0]
        self.there[name] = image(digests=[f"debian@{DIGEST}"])
        return self.there[name]

    def _pull(self, source, **_):
        self.pulled.append(source)
        yield from self._said()
        self.there[source] = image(digests=[source], tags=self.there)

    def _said(self):
        for said in self.says:
            if isinstance(said, Exception):
                raise said
            yield said

    def _get(self, name):
        if name not in self.there:
            raise ImageNotFound(name)
        return self.there[name]


def image(*, revision="", digests=(), tags=None):
    made = SimpleNamespace(
        id="sha256:" + "1" * 64,
        labels={images.REVISION: revision},
        attrs={"RepoDigests": list(digests), "Size": 300 * 2**20, "Created": "2026-01-02T03:04:05"},
    )
    made.tag = lambda name: tags.__setitem__(name, made)
    return made


def api_error(message, status=500):
    response = Response()
    response.status_code = status
    return APIError(message, response=response, explanation=message)


@pytest.fixture(autouse=True)
def _no_downloads(monkeypatch, tmp_path):
    monkeypatch.setattr(images_context, "wheelhouse", lambda *_, **__: tmp_path)


@pytest.fixture
def published():
    catalog = load_catalog()
    runtimes = {
        name: replace(runtime, digest=DIGEST) if runtime.image else runtime
        for name, runtime in catalog.runtimes.items()
    }
    return replace(catalog, runtimes=runtimes)


def arguments(*line):
    parser = argparse.ArgumentParser()
    images.add_arguments(parser)
    return parser.parse_args(line)


def test_an_image_is_named_after_its_runtime_and_the_version_in_it():
    assert images.tag_of("gym-core") == TAG


def test_a_runtime_without_an_image_is_refused_and_those_with_one_are_named():
    with pytest.raises(ConfigError, match=r"catch has no container image.*flashgames"):
        images.tag_of("catch")


def test_building_takes_the_version_the_base_and_the_sources_digest_along():
    engine = FakeEngine(there={"my:base": image()})
    (built,) = images.build(engine, ["gym-core"], base="my:base")
    (given,) = engine.built
    source = images_context.source_digest("gym-core")
    assert given["buildargs"] == {"BASE": "my:base", "VERSION": __version__, "SOURCE": source}
    assert (given["tag"], given["network_mode"]) == (TAG, "host")
    assert b"raygym.runtimes" in given["context"]
    assert built.is_current


def test_a_base_that_a_registry_brings_is_pinned_by_its_digest():
    engine = FakeEngine()
    images.build(engine, ["gym-core"], base="debian:other")
    assert engine.built[0]["buildargs"]["BASE"] == f"debian@{DIGEST}"


def test_a_base_that_nobody_has_says_how_to_make_it():
    engine = FakeEngine(says=[api_error("no such host")])
    with pytest.raises(
        PullFailed, match=r"debian:other is not there.*no such host.*scripts/engine"
    ):
        images.build(engine, ["gym-core"], base="debian:other")
    assert engine.built == []


def test_building_without_names_builds_whatever_can_be_built(monkeypatch):
    monkeypatch.setattr(images_context, "buildable", lambda: ["gym-core"])
    engine = FakeEngine()
    assert [image.runtime for image in images.build(engine)] == ["gym-core"]


def test_steps_are_told_while_the_image_is_built():
    told = []
    says = [{"stream": "Step 1/3 : ARG A"}, {"stream": "Step 2/3 : RUN  make\n all"}, {"aux": {}}]
    images.build(FakeEngine(says=says), ["gym-core"], say=told.append)
    assert told[1] == f"{TAG}: RUN make all"
    assert len(told) == 3
    assert "300 MiB" in told[2]


def test_a_failed_build_ends_with_the_end_of_its_log():
    lines = [{"stream": f"line {number}\n"} for number in range(100)]
    engine = FakeEngine(says=[*lines, {"error": "exit code 7"}])
    with pytest.raises(BuildFailed) as failed:
        images.build(engine, ["gym-core"])
    message = str(failed.value)
    assert message.startswith(f"building {TAG}: exit code 7\n")
    assert message.endswith("line 99")
    assert "line 10\n" not in message


@pytest.mark.parametrize(
    "says",
    [
        [{"error": "write /x: no space left on device"}],
        [{"stream": "cp: No space left on device\n"}, {"error": "exit code 1"}],
        [api_error("mkdir /var/lib: no space left on device")],
    ],
)
def test_a_full_disk_is_told_from_another_failure_of_a_build(says):
    with pytest.raises(DiskFull, match="docker system df"):
        images.build(FakeEngine(says=says), ["gym-core"])


def test_an_engine_that_goes_away_amid_a_build_is_said_to_be_gone():
    engine = FakeEngine(says=[RequestsConnectionError("refused")])
    with pytest.raises(NoEngine, match="building raygym/gym-core"):
        images.build(engine, ["gym-core"])


def test_an_unknown_image_is_refused_and_nothing_is_built():
    engine = FakeEngine()
    with pytest.raises(ConfigError, match="unknown runtime 'chess'"):
        images.build(engine, ["chess"])
    assert engine.built == []


def test_an_image_of_other_code_is_not_current():
    engine = FakeEngine(there={TAG: image(revision="sha256:0")})
    found = images.look(engine, "gym-core")
    assert found.id is not None
    assert not found.is_current


def test_an_image_that_is_not_there_has_no_id():
    assert images.look(FakeEngine(), "gym-core") == images.Image(runtime="gym-core", tag=TAG)


def test_an_engine_that_answers_with_an_error_is_quoted():
    engine = FakeEngine()
    engine.images.get = lambda _: (_ for _ in ()).throw(api_error("it is tired"))
    with pytest.raises(EngineFailed, match="it is tired"):
        images.look(engine, "gym-core")


def test_pulling_what_was_never_published_says_to_build_it():
    engine = FakeEngine()
    with pytest.raises(ConfigError, match="raygym images build flashgames gym-core"):
        images.pull(engine, ["flashgames", "gym-core"])
    assert engine.pulled == []


def test_pulling_goes_by_digest_and_gives_the_usual_name(published):
    engine = FakeEngine()
    (pulled,) = images.pull(engine, ["gym-core"], catalog=published)
    assert engine.pulled == [f"raygym/gym-core@{DIGEST}"]
    assert (pulled.tag, pulled.digest) == (TAG, DIGEST)


def test_pulling_adds_up_the_layers_that_are_under_way(published):
    def layer(name, current, total):
        detail = {"current": current, "total": total}
        return {"id": name, "status": "Downloading", "progressDetail": detail}

    seen = []
    says = [
        {"status": "Waiting", "id": "a"},
        layer("a", 1, 10),
        layer("b", 2, 5),
        layer("a", 9, 10),
    ]
    images.pull(
        FakeEngine(says=says),
        ["gym-core"],
        catalog=published,
        progress=lambda tag, came, known: seen.append((came, known)),
    )
    assert seen == [(0, 0), (1, 10), (3, 15), (11, 15)]


def test_a_pull_that_the_registry_refuses_says_what_it_said(published):
    engine = FakeEngine(says=[{"error": "manifest unknown"}])
    with pytest.raises(PullFailed, match=f"raygym/gym-core@{DIGEST}: manifest unknown"):
        images.pull(engine, ["gym-core"], catalog=published)


def test_ls_lists_every_runtime_that_has_an_image_also_those_not_built():
    listed = images.ls(FakeEngine(there={TAG: image()}))
    assert [i.runtime for i in listed] == images.runtimes()
    assert [i.id is not None for i in listed].count(True) == 1


def test_the_table_says_what_is_absent_and_what_is_old():
    rows = images.table(images.ls(FakeEngine(there={TAG: image(revision="sha256:0")})))
    lines = {line.split()[0]: line for line in rows.splitlines()}
    assert lines[f"raygym/flashgames:{__version__}"].endswith("absent")
    assert "111111111111   300 MiB  2026-01-02 03:04" in lines[TAG]
    assert lines[TAG].endswith("of other code: build it anew")


def test_whether_an_image_of_ones_own_is_current_is_not_known(monkeypatch):
    monkeypatch.setattr(images_context, "buildable", lambda: ["flashgames"])
    engine = FakeEngine(there={TAG: image()})
    assert images.look(engine, "gym-core").is_current is None
    assert images.table([images.look(engine, "gym-core")]).endswith("your own")


def test_the_command_prints_json_where_no_terminal_looks(monkeypatch, capsys):
    engine = FakeEngine(there={TAG: image()})
    monkeypatch.setattr(images, "connect", lambda: engine)
    assert images.main(arguments("ls")) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["tag"] for row in rows} >= {TAG}
    assert engine.is_closed


def test_the_command_prints_a_table_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(images, "connect", FakeEngine)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert images.main(arguments("ls")) == 0
    assert capsys.readouterr().out.startswith("image ")


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        (["pull", "gym-core"], 2, "no published image of gym-core"),
        (["build", "catch"], 2, "catch has no container image"),
    ],
)
def test_the_command_says_what_is_wrong_and_exits(monkeypatch, capsys, line, status, said):
    engine = FakeEngine()
    monkeypatch.setattr(images, "connect", lambda: engine)
    assert images.main(arguments(*line)) == status
    assert said in capsys.readouterr().err
    assert engine.is_closed


def test_the_command_exits_with_1_where_a_build_fails(monkeypatch, capsys):
    engine = FakeEngine(says=[{"error": "exit code 7"}])
    monkeypatch.setattr(images, "connect", lambda: engine)
    assert images.main(arguments("build", "gym-core", "--no-cache")) == 1
    assert "exit code 7" in capsys.readouterr().err
    assert engine.built[0]["nocache"]


def test_the_bar_draws_a_line_for_each_image_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with images._Bar() as bar:
        bar("a:1", 0, 0)
        bar("a:1", 2**20, 2 * 2**20)
        bar("b:1", 2**20, 2**20)
    lines = capsys.readouterr().err.splitlines()
    assert "a:1 [############............] 1 of 2 MiB " in lines
    assert lines[-1] == "b:1 [########################] 1 of 1 MiB "


def test_without_a_terminal_the_bar_is_one_line_for_each_image(capsys):
    with images._Bar() as bar:
        bar("a:1", 1, 2)
        bar("a:1", 2, 2)
    assert capsys.readouterr().err == "a:1: fetching\n"


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the SDK's own, of its socket
def test_a_machine_without_an_engine_is_told_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(NoEngine, match=f"{tmp_path}/docker.sock"):
        images_engine.connect()
    gc.collect()


def test_a_socket_that_one_may_not_open_is_told_from_no_engine():
    with pytest.raises(EnginePermission), images_engine.translated("connecting"):
        raise DockerException(
            "Error: ('Connection aborted.', PermissionError(13, 'Permission denied'))"
        )
