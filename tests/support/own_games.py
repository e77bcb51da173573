"""Little Flash games such as a person might bring along, made by the tests."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

SOURCES = Path(__file__).with_name("own_games")
SIZE_PX = (320, 200)
FPS = 20


def compile_swf(name: str, folder: Path) -> Path:
    """Compiles ``own_games/<name>.hx`` into ``folder``."""
    swf = folder / f"{name}.swf"
    header = f"{SIZE_PX[0]}:{SIZE_PX[1]}:{FPS}:102030"
    command = ["haxe", "-cp", str(SOURCES), "-main", name, "-swf", str(swf)]
    command += ["-swf-header", header, "-swf-version", "11", "-dce", "full"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return swf


def write_avm1_swf(path: Path, rgb: tuple[int, int, int]) -> Path:
    """Writes a one-frame SWF 6 with nothing but a background, as old Flash made them."""
    rectangle = _rectangle(SIZE_PX[0] * 20, SIZE_PX[1] * 20)
    background = struct.pack("<H", (9 << 6) | 3) + bytes(rgb)
    show_frame, end = struct.pack("<H", 1 << 6), struct.pack("<H", 0)
    body = rectangle + struct.pack("<HH", FPS << 8, 1) + background + show_frame + end
    path.write_bytes(b"FWS\x06" + struct.pack("<I", len(body) + 8) + body)
    return path


def _rectangle(width_twips: int, height_twips: int) -> bytes:
    bits = 16
    text = f"{bits:05b}" + "".join(f"{v:0{bits}b}" for v in (0, width_twips, 0, height_twips))
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def add_game(games_dir: Path, game_id: str, settings: str) -> Path:
    """Makes a game's folder with its ``game.yaml``; returns the folder."""
    folder = games_dir / game_id
    folder.mkdir(parents=True)
    (folder / "game.yaml").write_text(
        f"id: {game_id}\nsize: [{SIZE_PX[0]}, {SIZE_PX[1]}]\nfps: {FPS}\n{settings}"
    )
    return folder
