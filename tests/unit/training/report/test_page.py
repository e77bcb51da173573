from __future__ import annotations

import html.parser
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from raygym import report as command
from raygym.core import Outcome
from raygym.films.studio import FilmStudio, Take
from raygym.training.record_reading import read_run
from raygym.training.report import films
from raygym.training.report.page import make_report, write_report
from tests.support.run_files import a_report, an_episode, write_part

AT = datetime(2026, 1, 2, tzinfo=UTC)
VOID = {"meta", "img", "br", "input", "link", "hr", "source", "path", "use", "rect", "stop"}


class Page(html.parser.HTMLParser):
    """Reads a page: its text, addresses and tags; fails where tags do not match."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(content)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u202f", " ").split())


def page_of(logdir: Path) -> Page:
    return Page(make_report(read_run(logdir), at=AT))


def film(logdir: Path, episode: int, outcome: Outcome = Outcome.OK, score: float = 1.0) -> None:
    studio = FilmStudio()
    take = Take(
        directory=logdir / "videos",
        env="test.Tiny-v0",
        run="r",
        slot=0,
        fps=10.0,
        kept=10,
        started_at=f"2026-01-01T00:00:{episode:02d}.000Z",
    )
    for n in range(3):
        studio.shoot(take, np.zeros((12, 12, 1), np.uint8), n / 10)
    reason = "" if outcome is Outcome.OK else "the remote <died>"
    studio.end(take, an_episode(episode, outcome=outcome, score=score, reason=reason))
    assert studio.close(timeout_s=60.0)


def test_the_report_says_what_was_run_and_what_came_of_it(tmp_path: Path):
    failed = an_episode(8, outcome=Outcome.TIMEOUT, reason="no answer to <step>", slot=1)
    times = {"times_ms": {"reaction_time_ms": [20.0, 30.0, 40.0], "action_lag_ms": [5.0]}}
    reports = [a_report(an_episode(n), steps=1000, remotes_started=3, **times) for n in range(8)]
    write_part(tmp_path, *reports, a_report(failed, failed, remotes_started=3, remotes_lost=1))
    text = page_of(tmp_path).text
    for said in (
        "test.Tiny-v0",
        "Trained by A3C in real time, 2 slots.",
        "begun 2026-01-01 12:00:00 UTC",
        "--minutes 1 reached",
        "Score, all 8 whole episodes, mean ± standard deviation 3.5 ± 2.291",
        "Best score 7",
        "8 010",
        "Remotes started 3",
        "Remotes lost 1",
        "Floor of the score (random play) −3.333",
        "Ceiling of the score (scripted driver) 10",
        "ok 8 80 %",
        "timeout no answer to <step> 2 1",
        "Reaction time: from a change on the screen to the answer to it 30 40 40 24",
        "gamma 0.97",
        "learning_rate 0.0005",
        "Figure 1.",
        "numpy",
        "python",
        "cores",
        "No episode was filmed.",
        "Written by raygym",
    ):
        assert said in text, said


def test_the_page_is_whole_alone_and_without_scripts(tmp_path: Path):
    write_part(tmp_path, *[a_report(an_episode(n)) for n in range(8)])
    film(tmp_path, 0)
    page = page_of(tmp_path)
    assert "script" not in page.tags
    assert {"svg", "video", "img", "table"} <= set(page.tags)
    own = [one for one in page.addresses if not one.startswith(("data:", "#"))]
    assert all("://" not in one for one in own)
    assert all((tmp_path / one).exists() for one in own)


def test_films_stand_the_best_first_and_say_why_they_were_cut(tmp_path: Path):
    write_part(tmp_path, a_report(an_episode()))
    film(tmp_path, 0, score=1.0)
    film(tmp_path, 1, score=9.0)
    film(tmp_path, 2, Outcome.INFRA_FAILURE, score=99.0)
    text = page_of(tmp_path).text
    best, cut, oldest = (
        text.index("Best whole episode filmed. Episode 1"),
        text.index("Cut: infra_failure (the remote <died>)"),
        text.index("Episode 0 of slot 0"),
    )
    assert best < cut < oldest


def test_films_beyond_a_sum_are_linked_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_part(tmp_path, a_report(an_episode()))
    film(tmp_path, 0)
    monkeypatch.setattr(films, "MOST_EMBEDDED_BYTES", 10)
    page = page_of(tmp_path)
    assert "video" not in page.tags
    assert "img" in page.tags
    assert "videos/slot-0-episode-000000.mp4" in page.addresses


def test_each_part_of_a_resumed_run_is_told_and_sums_are_over_all(tmp_path: Path):
    write_part(tmp_path, a_report(an_episode(0), remotes_started=2), ended_by="stopped by hand")
    write_part(tmp_path, a_report(an_episode(1), remotes_started=3), ended_by="--steps 9 reached")
    text = page_of(tmp_path).text
    assert "resumed once" in text
    assert "Remotes started 5" in text
    assert "stopped by hand" in text
    assert "ok 2 100 %" in text


def test_an_episode_that_went_with_its_actor_is_counted_without_an_invented_reason(tmp_path: Path):
    write_part(tmp_path, a_report(an_episode(0)))
    content = (tmp_path / "run.json").read_text()
    told = content.replace('"ok": 1', '"ok": 1, "infra_failure": 1')
    (tmp_path / "run.json").write_text(told)
    assert "the actor that played it ended" in page_of(tmp_path).text


def test_a_run_that_goes_on_or_was_cut_short_is_said_to_have_no_end(tmp_path: Path):
    write_part(tmp_path, a_report(an_episode()), ended_by=None)
    assert "No end is on record" in page_of(tmp_path).text


def test_a_run_that_never_began_has_a_report(tmp_path: Path):
    write_part(tmp_path, ended_by="NothingStarted: no <remote>")
    text = page_of(tmp_path).text
    assert "NothingStarted: no <remote>" in text
    assert "No episode ended." in text


def test_what_an_old_run_did_not_record_is_not_made_up(tmp_path: Path):
    from torch.utils.tensorboard import SummaryWriter

    board = SummaryWriter(str(tmp_path))
    for n in range(9):
        board.add_scalar("global/episode_reward", float(n), n)
    board.close()
    text = page_of(tmp_path).text
    assert "Drawn from TensorBoard’s files" in text
    assert "Best score 8" in text
    for absent in ("Outcomes", "Remotes", "Versions", "0 failed", "Settings as given"):
        assert absent not in text


def test_the_command_writes_report_and_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_part(tmp_path, a_report(an_episode()))
    assert command.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "curves.png").is_file()
    assert command.main([str(tmp_path / "none")]) == command.EXIT_USAGE
    assert "neither run.json" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    write_part(tmp_path, a_report(an_episode()))
    run = read_run(tmp_path)
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_report(run, tmp_path / "taken")
    assert not list(tmp_path.glob("*.tmp"))
