from __future__ import annotations

from pathlib import Path

from raygym.runtimes.log_limit import shorten


def test_a_log_within_its_limit_stays_as_it_is(tmp_path: Path):
    log = tmp_path / "remote.log"
    log.write_text("a line\n")
    assert not shorten(log, 7)
    assert log.read_text() == "a line\n"


def test_of_a_longer_one_the_newest_whole_lines_stay_and_writers_go_on(tmp_path: Path):
    log = tmp_path / "remote.log"
    with log.open("a") as writer:
        writer.writelines(f"line {number:03}\n" for number in range(100))
        writer.flush()
        assert shorten(log, 400)
        writer.write("one more\n")
    said, *lines = log.read_text().splitlines()
    assert said == "(older lines were dropped)"
    assert lines == [*(f"line {number:03}" for number in range(89, 100)), "one more"]
