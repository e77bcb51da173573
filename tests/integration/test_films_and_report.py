"""A real run leaves films that play, curves and a report that a browser shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import cv2
import pytest

from raygym.films.shelf import FilmRecord, best_film
from raygym.training.record_reading import RunData, read_run
from tests.support.page_browser import page_at

pytestmark = pytest.mark.alone

PLAY = """((last) => {
  const film = document.querySelector("video");
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  let shown = -1, sought = false;
  const check = () => {
    if (!sought || shown < last) return;
    window.seen = {
      size: [film.videoWidth, film.videoHeight], seconds: film.duration, error: null,
      frames: film.getVideoPlaybackQuality().totalVideoFrames,
      colour: Array.from(context.getImageData(20, 20, 1, 1).data).slice(0, 3)};
  };
  const draw = (now, picture) => {
    [canvas.width, canvas.height] = [film.videoWidth, film.videoHeight];
    context.drawImage(film, 0, 0);
    shown = picture.mediaTime;
    film.requestVideoFrameCallback(draw);
    check();
  };
  film.requestVideoFrameCallback(draw);
  // A player that lags behind ends without showing its last picture; a seek has it shown.
  film.onended = () => { film.currentTime = film.duration - 0.001; };
  film.onseeked = () => { sought = true; check(); };
  // On a busy machine a seek may show nothing new, and a player may stop for want of pictures.
  let nudges = 0;
  const nudging = setInterval(() => {
    if (window.seen) clearInterval(nudging);
    else if (sought || film.ended) film.currentTime = film.duration - 0.001 * (1 + nudges++ %% 9);
    else if (film.paused) film.play();
  }, 1000);
  film.onerror = () => { window.seen = {error: film.error.message || film.error.code}; };
  film.muted = true;
  film.playbackRate = 8;
  film.play();
})(%r)"""
REPORT = """({
  title: document.title,
  text: document.body.innerText,
  fetched: performance.getEntriesByType("resource").map((one) => one.name)
    .filter((name) => !name.startsWith("data:")),
  width: document.documentElement.scrollWidth,
  figures: document.querySelectorAll("figure svg").length,
  sheets: Array.from(document.querySelectorAll("img")).filter((one) => one.naturalWidth).length,
  films: document.querySelectorAll("video").length,
  paper: getComputedStyle(document.body).backgroundColor,
})"""


def train(directory: Path, *flags: str) -> dict[str, Any]:
    summary = directory / "summary.json"
    command = [
        *(sys.executable, "-m", "raygym.train", "--logdir", "run", "--summary", str(summary)),
        *("--backend", "process", "--mode", "realtime", *flags),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=170, check=False, cwd=directory
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(summary.read_text())
    return told


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of Catch in two parts, with films of both slots."""
    directory = tmp_path_factory.mktemp("catch")
    flags = (
        *("--env", "test.Catch-v0", "--workers", "2", "--checkpoint-every-s", "1"),
        *("--films.slots", "0", "1", "--films.least-gap-s", "0", "--films.every-episodes", "1"),
    )
    first = train(directory, *flags, "--steps", "500")
    train(directory, *flags, "--steps", str(first["env_steps"] + 200), "--resume", "run")
    return directory / "run"


@pytest.fixture(scope="module")
def run(logdir: Path) -> RunData:
    return read_run(logdir)


def whole(films: list[FilmRecord]) -> FilmRecord:
    return next(film for film in films if not film.cut)


def test_the_run_is_on_record_in_both_its_parts(run: RunData, logdir: Path):
    assert [part["ended_by"].split()[0] for part in run.parts] == ["--steps", "--steps"]
    told = sum(part["summary"]["outcomes"]["ok"] for part in run.parts)
    assert len(run.episodes) == told > 0
    assert run.progress
    assert run.progress[-1]["learner"]
    assert run.last["settings"]["resume"] == "run"
    assert (logdir / "curves.png").is_file()
    assert run.last["summary"]["report"] == str(Path("run") / "report.html")


def test_the_episode_that_the_end_of_the_run_cuts_short_is_filmed_up_to_there(tmp_path: Path):
    # Few films: an actor has five seconds for those that wait at the end, also on a busy machine.
    flags = ("--workers", "1", "--films.least-gap-s", "0", "--films.every-episodes", "1")
    # Its episodes last for a quarter of a minute, so that the end does not fall between two.
    train(tmp_path, "--env", "gym-core.Acrobot-v1", *flags, "--steps", "5")
    *whole_ones, last = sorted(read_run(tmp_path / "run").films, key=lambda film: film.started_at)
    assert (last.cut, last.episode) == ("run_ended", None)
    assert [film.cut for film in whole_ones] == [""] * len(whole_ones)


def test_each_slot_was_filmed_and_each_film_is_h264_of_what_the_agent_saw(
    run: RunData, logdir: Path
):
    assert {film.slot for film in run.films} == {0, 1}
    for film in run.films:
        with av.open(str(logdir / "videos" / film.film)) as file:
            stream = file.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.pix_fmt == "yuv420p"
            assert (stream.width % 2, stream.height % 2) == (0, 0)
            assert stream.frames == film.steps + 1
            assert float(stream.duration * stream.time_base) == pytest.approx(
                film.duration_s, rel=0.02
            )
        sheet = cv2.imread(str(logdir / "videos" / film.sheet))
        assert sheet.shape[1] > 1000
    assert not list((logdir / "videos").glob("*.part.mp4"))


def test_the_scores_of_films_are_those_of_their_episodes(run: RunData):
    film = whole(run.films)
    assert film.score in run.episodes.score.tolist()
    assert film.steps in run.episodes.steps.tolist()


def test_a_browser_plays_the_film_to_its_end(run: RunData, logdir: Path, tmp_path: Path):
    film = best_film(run.films)
    assert film is not None
    with page_at((logdir / "report.html").as_uri(), tmp_path) as page:
        page.wait_for("document.readyState === 'complete'")
        # Halfway into the picture before the last: times are rounded.
        page.evaluate(PLAY % (film.duration_s * (1 - 1.5 / (film.steps + 1))))
        seen = page.wait_for("window.seen", timeout_s=90)
    assert seen["error"] is None
    assert tuple(seen["size"]) == film.size_px
    assert seen["seconds"] == pytest.approx(film.duration_s, rel=0.02)
    assert seen["frames"] > 0
    with av.open(str(logdir / "videos" / film.film)) as file:
        *_, last = file.decode(video=0)
    shown = last.to_ndarray(format="rgb24")[20, 20].astype(int)
    assert abs(shown - seen["colour"]).max() <= 6


def test_a_browser_shows_the_report_without_asking_for_anything(
    run: RunData, logdir: Path, tmp_path: Path
):
    with page_at((logdir / "report.html").as_uri(), tmp_path) as page:
        page.wait_for("document.readyState === 'complete'")
        page.prefer("light")
        seen = page.evaluate(REPORT)
        picture = page.picture()
        page.prefer("dark")
        in_the_dark = page.evaluate(REPORT)
        phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        page.call("Emulation.setDeviceMetricsOverride", **phone)
        on_a_phone = page.evaluate(REPORT)
    assert seen["title"] == f"{run.env}: report of a run"
    assert seen["fetched"] == []
    assert seen["figures"] > 4
    assert seen["sheets"] == len(run.films)
    assert seen["films"] > 0
    assert "resumed once" in seen["text"]
    assert "Reaction time: from a change on the screen to the answer to it" in seen["text"]
    assert picture.std() > 10
    assert seen["paper"] == "rgb(255, 255, 255)"
    assert in_the_dark["paper"] != seen["paper"]
    assert on_a_phone["width"] <= 390, "nothing sticks out"


def test_the_report_can_be_written_again_later(logdir: Path, tmp_path: Path):
    out = tmp_path / "again.html"
    command = [sys.executable, "-m", "raygym.report", str(logdir), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    assert "test.Catch-v0" in out.read_text()
