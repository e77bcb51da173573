from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from raygym.core import Outcome
from raygym.errors import ConfigError
from raygym.training.record_reading import read_run
from tests.support.run_files import a_report, an_episode, write_part


def test_a_run_comes_back_as_it_was_written(tmp_path: Path):
    failed = an_episode(2, outcome=Outcome.TIMEOUT, reason="no answer")
    write_part(tmp_path, a_report(an_episode(0)), a_report(an_episode(1)), a_report(failed))
    run = read_run(tmp_path)
    assert (run.env, run.title, run.origin) == ("test.Tiny-v0", "Tiny", "record")
    assert run.episodes.score.tolist() == [0.0, 1.0, 2.0]
    assert run.episodes.env_steps.tolist() == [10.0, 20.0, 30.0]
    assert run.episodes.is_ok.tolist() == [True, True, False]
    assert run.episodes.minutes.tolist() == pytest.approx([0.0, 2 / 60, 4 / 60], abs=1e-4)
    assert [row["reason"] for row in run.episodes.rows] == ["no answer"]
    assert len(run.progress) == 1
    assert run.last["ended_by"] == "--minutes 1 reached"


def test_time_goes_on_over_the_parts_of_a_run(tmp_path: Path):
    for _ in range(2):
        write_part(tmp_path, *[a_report(an_episode(n)) for n in range(4)])
    run = read_run(tmp_path)
    minutes = run.episodes.minutes.tolist()
    assert minutes == sorted(minutes)
    assert minutes[4] == pytest.approx(minutes[3] + 2 / 60, abs=1e-3), "the end of part 1"
    assert [line["minutes"] for line in run.progress] == sorted(
        line["minutes"] for line in run.progress
    )


@pytest.mark.parametrize("cut", [1, 3, 20, 40])
def test_lines_that_were_cut_off_are_left_out(tmp_path: Path, cut: int):
    write_part(tmp_path, *[a_report(an_episode(n)) for n in range(8)], ended_by=None)
    for name in ("episodes.csv", "progress.jsonl"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-cut])
    run = read_run(tmp_path)
    assert 7 <= len(run.episodes) <= 8
    assert [line["env_steps"] for line in run.progress] == ([40, 70] if cut == 1 else [40])


def test_a_run_that_did_nothing_yet_can_be_read(tmp_path: Path):
    write_part(tmp_path, ended_by=None)
    run = read_run(tmp_path)
    assert len(run.episodes) == 0
    assert run.progress == run.films == []


def test_an_older_run_is_read_from_tensorboards_files(tmp_path: Path):
    board = SummaryWriter(str(tmp_path))
    for n in range(5):
        board.add_scalar("global/episode_reward", n * 2.0, n * 100, walltime=1000.0 + 60 * n)
        board.add_scalar("global/episode_length", 7.0, n * 100, walltime=1000.0 + 60 * n)
    board.close()
    run = read_run(tmp_path)
    assert run.origin == "tensorboard"
    assert run.episodes.score.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert run.episodes.env_steps.tolist() == [0.0, 100.0, 200.0, 300.0, 400.0]
    assert run.episodes.minutes.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert run.episodes.steps.tolist() == [7.0] * 5
    assert run.parts == []


def test_a_directory_without_a_run_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"neither run\.json nor an episode"):
        read_run(tmp_path)


def test_a_broken_description_is_told(tmp_path: Path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"run\.json: it cannot be read"):
        read_run(tmp_path)
