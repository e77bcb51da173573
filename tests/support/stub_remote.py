"""A program started like a remote; its behaviour is named in place of the runtime."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path


def listen(directory: Path) -> list[socket.socket]:
    (directory / "password").write_text("open-sesame")
    sockets = []
    for name in ("vnc.sock", "rewarder.sock"):
        sockets.append(socket.socket(socket.AF_UNIX))
        sockets[-1].bind(str(directory / name))
        sockets[-1].listen()
    said = {
        "runtime": "stub",
        "pid": os.getpid(),
        "vnc": f"unix:{directory}/vnc.sock",
        "rewarder": f"unix:{directory}/rewarder.sock",
        "protocol": 1,
    }
    (directory / "ready.json.part").write_text(json.dumps(said))
    (directory / "ready.json.part").rename(directory / "ready.json")
    return sockets


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("behaviour")
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--lifeline-fd", type=int)
    parser.add_argument("--note", default="")
    given = parser.parse_args()
    print("behaviour", given.behaviour, given.note, file=sys.stderr, flush=True)
    if given.behaviour == "crash":
        sys.exit("no display could be opened")
    if given.behaviour == "missing":
        sys.exit("raygym.errors.MissingDependency: Xvnc is absent: apt-get install it")
    if given.behaviour == "garble":
        (given.directory / "ready.json").write_text('{"vnc": "host:port"}')
    if given.behaviour in ("mute", "garble"):
        os.read(given.lifeline_fd, 1)
        return
    if given.behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "600"])
        (given.directory / "child").write_text(str(child.pid))
    sockets = listen(given.directory)
    while os.read(given.lifeline_fd, 1) or given.behaviour == "stubborn":
        if given.behaviour == "stubborn":
            signal.pause()
    for sock in sockets:
        sock.close()


main()
