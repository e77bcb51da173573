"""Lets a person look in on the remotes of a run, over VNC."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from raygym.core import Remote
from raygym.wire.vnc_auth import obfuscate

VIEWER = "vncviewer"
_END_TIMEOUT_S = 2.0


class Viewers:
    """Opens one VNC viewer a worker, or says how to.

    The passwords lie in a private directory, which goes with the viewers when this is closed.

    Args:
        environment: Where DISPLAY and PATH are looked up; None is this process's.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._directory = Path(tempfile.mkdtemp(prefix="raygym-view-"))
        self._remotes: dict[int, str] = {}
        self._viewers: dict[int, subprocess.Popen[bytes]] = {}

    def show(self, slot: int, remote: Remote) -> str | None:
        """Opens a viewer on the remote of a worker if there is a display.

        Args:
            slot: Number of the worker.
            remote: What it plays on now.

        Returns:
            What to tell a person, or None if the same remote was shown before or has no screen.
        """
        if self._remotes.get(slot) == remote.id or remote.vnc is None:
            return None
        self._remotes[slot] = remote.id
        self._end(slot)
        command = self._command(slot, remote)
        hint = f"worker {slot}: look in with: {shlex.join(command)}"
        if not self._environment.get("DISPLAY"):
            return f"{hint}  (no DISPLAY here, so no window was opened)"
        program = shutil.which(VIEWER, path=self._environment.get("PATH"))
        if program is None:
            return f"{hint}  ({VIEWER} is not installed: apt-get install tigervnc-viewer)"
        self._viewers[slot] = subprocess.Popen(
            [program, *command[1:]],
            env=dict(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return hint

    def close(self) -> None:
        """Ends the viewers and removes the passwords; may be called twice."""
        for slot in list(self._viewers):
            self._end(slot)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _command(self, slot: int, remote: Remote) -> list[str]:
        command = [VIEWER, "-Shared", "-ViewOnly"]
        if remote.password is not None:
            path = self._directory / f"worker-{slot}.passwd"
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(obfuscate(remote.password.reveal()))
            command += ["-passwd", str(path)]
        vnc = remote.vnc
        if vnc is None:
            return command
        return [*command, vnc.path if vnc.path is not None else f"{vnc.host}::{vnc.port}"]

    def _end(self, slot: int) -> None:
        viewer = self._viewers.pop(slot, None)
        if viewer is None:
            return
        viewer.terminate()
        try:
            viewer.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            viewer.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                viewer.wait(_END_TIMEOUT_S)
