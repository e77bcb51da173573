from __future__ import annotations

import json
from pathlib import Path

import pytest

from raygym import doctor
from raygym.doctor import Check


def _check(*, is_ok: bool, is_required: bool = True) -> Check:
    return Check(
        name="Xvnc",
        is_ok=is_ok,
        is_required=is_required,
        seen="not on the PATH",
        remedy="" if is_ok else "apt-get install tigervnc-standalone-server",
    )


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a program of the given text on an otherwise empty PATH."""

    def put(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    monkeypatch.setenv("PATH", str(tmp_path))
    return put


def test_a_missing_program_is_named_with_its_package(program):
    check = doctor.check_program("Xvnc", "tigervnc-standalone-server")
    assert not check.is_ok
    assert "apt-get install --no-install-recommends tigervnc-standalone-server" in check.remedy
    assert "Docker" in check.remedy


def test_a_program_that_answers_is_ok_and_its_version_is_seen(program):
    program("Xvnc", "echo 'Xvnc TigerVNC 1.12.0' >&2; exit 1")
    check = doctor.check_program("Xvnc", "tigervnc-standalone-server")
    assert check.is_ok
    assert "Xvnc TigerVNC 1.12.0" in check.seen


def test_a_stub_that_asks_for_a_snap_is_found_out(program):
    program("chromium", "echo 'Command requires the chromium snap to be installed.'; exit 1")
    check = doctor.check_program("chromium", "chromium")
    assert not check.is_ok
    assert "stub for a snap" in check.remedy


def test_a_variable_names_another_program(program, monkeypatch):
    path = program("chrome", "echo Chrome 156")
    monkeypatch.setenv("RAYGYM_CHROMIUM", str(path))
    assert doctor.check_program("chromium", "chromium", variable="RAYGYM_CHROMIUM").is_ok


def test_a_missing_package_is_named_with_its_extra():
    check = doctor.check_package("no_such_package", "no-such", extra="train")
    assert not check.is_ok
    assert "raygym[train]" in check.remedy


def test_too_little_memory_is_said():
    assert doctor.check_memory(available_mib=8000).is_ok
    assert not doctor.check_memory(available_mib=1900).is_ok


def test_missing_ruffle_is_named_with_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setenv("RAYGYM_CACHE", str(tmp_path))
    check = doctor.check_ruffle()
    assert not check.is_ok
    assert "raygym.runtimes.flashgames.ruffle" in check.remedy


def test_missing_miniwob_and_a_missing_engine_are_named_and_do_not_stop_training(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("RAYGYM_CACHE", str(tmp_path))
    monkeypatch.delenv("RAYGYM_MINIWOB", raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    checks = [doctor.check_miniwob(), doctor.check_docker()]
    assert [check.is_ok for check in checks] == [False, False]
    assert "python -m raygym.runtimes.wob.miniwob" in checks[0].remedy
    assert str(tmp_path) in checks[1].seen
    assert doctor.can_train(checks)


def test_an_optional_check_does_not_stop_training():
    assert doctor.can_train([_check(is_ok=True), _check(is_ok=False, is_required=False)])
    assert not doctor.can_train([_check(is_ok=True), _check(is_ok=False)])


def test_the_report_says_what_is_missing_and_what_to_do():
    text = doctor.report([_check(is_ok=False)], as_json=False)
    assert "MISSING" in text
    assert "-> apt-get install tigervnc-standalone-server" in text
    assert "Not ready" in text


def test_the_json_report_is_for_programs():
    report = json.loads(doctor.report([_check(is_ok=False)], as_json=True))
    assert report["can_train"] is False
    assert report["checks"][0]["remedy"] == "apt-get install tigervnc-standalone-server"


def test_the_exit_status_says_whether_the_main_job_can_run(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "run_checks", lambda: [_check(is_ok=False)])
    assert doctor.main(as_json=False) == 1
    monkeypatch.setattr(doctor, "run_checks", lambda: [_check(is_ok=True)])
    assert doctor.main(as_json=True) == 0
    assert json.loads(
        capsys.readouterr().out.split("\n\n")[-1].split("mend what is marked MISSING.\n")[-1]
    )
