#!/usr/bin/env python3
"""Compiles the built-in Flash games with Haxe; ``--check`` tells whether their SWFs are up to date.

    scripts/build_games.py            compiles both games and writes their SWFs
    scripts/build_games.py --check    compiles into a temporary folder and compares

A SWF is byte-reproducible up to the random name that Haxe gives its start class, which is set
to a fixed one here, and up to zlib's choices, which a comparison of unpacked files leaves out.
Each SWF says in its metadata which sources and which compiler it was made from, so that the
check also means something with another version of Haxe: then the sources must be the same and
must compile; the code is compared only where the compiler is the same.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

GAMES_DIR = Path(__file__).parents[1] / "raygym" / "runtimes" / "flashgames" / "games"
GAMES = ("DuskDrive", "NeonRace")
COMMON = "common"
COMPILE_TIMEOUT_S = 120
SWF_HEADER = "640:480:25:000000"
SWF_VERSION = "11"
FILE_ATTRIBUTES, METADATA = 69, 77
_BOOT_CLASS = re.compile(rb"boot_[0-9a-f]{4}")
_STAMP = re.compile(rb"sources ([0-9a-f]{64}) haxe ([\w.-]+)")


class BuildError(Exception):
    """A game does not compile, or its SWF is no SWF that this script wrote."""


def main(arguments: list[str] | None = None, games_dir: Path = GAMES_DIR) -> int:
    """Builds or checks the games.

    Args:
        arguments: The command line without the program's name; None takes the real one.
        games_dir: Folder of the games.

    Returns:
        The exit status: 0 if all is well, 1 if not.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="compare only; change nothing")
    options = parser.parse_args(arguments)
    try:
        for game in GAMES:
            if options.check:
                print(f"{game}: {check(game, games_dir)}")
            else:
                data = compile_game(game, games_dir)
                (games_dir / game / f"{game}.swf").write_bytes(data)
                print(f"{game}: {len(data)} bytes")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def check(game: str, games_dir: Path) -> str:
    """Compares a game's SWF with its sources; returns what was found in words.

    Raises:
        BuildError: They do not agree.
    """
    path = games_dir / game / f"{game}.swf"
    there = unpack(path.read_bytes(), path)
    found = _STAMP.search(there)
    if not found:
        raise BuildError(f"{path}: was not written by scripts/build_games.py; run it")
    sources, compiler = found[1].decode(), found[2].decode()
    if sources != source_digest(game, games_dir):
        raise BuildError(
            f"{path}: was made from other sources than those beside it; "
            "run scripts/build_games.py and commit what it writes"
        )
    fresh = unpack(compile_game(game, games_dir), path)
    if compiler != haxe_version():
        return f"its sources are those of the SWF, and compile (by Haxe {compiler} then)"
    if fresh != there:
        raise BuildError(
            f"{path}: differs from what Haxe {compiler} makes of its sources; "
            "run scripts/build_games.py and commit what it writes"
        )
    return "up to date"


def compile_game(game: str, games_dir: Path) -> bytes:
    """Compiles a game and returns its SWF, stamped and without what Haxe chose at random.

    Raises:
        BuildError: Haxe is absent, took too long or found errors; its message is part of it.
    """
    with tempfile.TemporaryDirectory(prefix="raygym-games-") as folder:
        made = Path(folder) / "game.swf"
        command = ["haxe", "-cp", str(games_dir / COMMON), "-cp", str(games_dir / game)]
        command += ["-main", "Main", "-swf", str(made), "-swf-header", SWF_HEADER]
        command += ["-swf-version", SWF_VERSION, "-dce", "full"]
        _run(command, f"{game} does not compile")
        body = _BOOT_CLASS.sub(b"boot_0000", unpack(made.read_bytes(), made))
    version = haxe_version()
    stamp = f"sources {source_digest(game, games_dir)} haxe {version}".encode()
    return pack(with_metadata(body, stamp))


def source_digest(game: str, games_dir: Path) -> str:
    """Returns the SHA-256 over the names and contents of all files that a game is made of."""
    digest = hashlib.sha256(f"{SWF_HEADER} {SWF_VERSION}".encode())
    for folder in (COMMON, game):
        for path in sorted((games_dir / folder).glob("*.hx")):
            text = path.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"\0{folder}/{path.name}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()


def haxe_version() -> str:
    """Returns the version of the compiler on the PATH, or raises BuildError."""
    return _run(["haxe", "--version"], "haxe --version failed").split("+")[0]


def unpack(swf: bytes, path: Path) -> bytes:
    """Returns the SWF version byte and the body of a compressed SWF.

    Raises:
        BuildError: It is not compressed with zlib, or damaged.
    """
    if swf[:3] != b"CWS" or len(swf) < 8:
        raise BuildError(f"{path}: expected a compressed SWF (CWS), got {swf[:3]!r}")
    try:
        return swf[3:4] + zlib.decompress(swf[8:])
    except zlib.error as error:
        raise BuildError(f"{path}: is damaged: {error}") from error


def pack(unpacked: bytes) -> bytes:
    """Returns the SWF of what ``unpack`` gives."""
    body = unpacked[1:]
    return b"CWS" + unpacked[:1] + struct.pack("<I", len(body) + 8) + zlib.compress(body, 9)


def with_metadata(unpacked: bytes, text: bytes) -> bytes:
    """Returns the unpacked SWF with a metadata tag right after its first tag."""
    bits = unpacked[1] >> 3
    at = 1 + (5 + 4 * bits + 7) // 8 + 4
    head = struct.unpack_from("<H", unpacked, at)[0]
    if head >> 6 != FILE_ATTRIBUTES or head & 63 != 4:
        raise BuildError(f"expected the tag FileAttributes first in the SWF, got {head >> 6}")
    attributes = bytes([unpacked[at + 2] | 0x10]) + unpacked[at + 3 : at + 6]
    tag = struct.pack("<HI", METADATA << 6 | 63, len(text) + 1) + text + b"\0"
    return unpacked[: at + 2] + attributes + tag + unpacked[at + 6 :]


def _run(command: list[str], failure: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise BuildError(
            f"{failure}: there is no {command[0]}; on Debian: apt-get install haxe"
        ) from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"{failure}: no answer within {COMPILE_TIMEOUT_S} s") from None
    if done.returncode:
        raise BuildError(f"{failure} (status {done.returncode}):\n{done.stderr}{done.stdout}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
