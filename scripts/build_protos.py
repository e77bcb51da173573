"""Makes the Python modules of the .proto files anew.

.venv/bin/python scripts/build_protos.py [--check]

``--check`` compares instead of writing; exit 1 if they differ.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "raygym" / "wire" / "proto").glob("*.proto"))


def build(target: Path) -> list[Path]:
    """Writes the modules below ``target``; returns their paths relative to it."""
    include = Path(protoc.__file__).parent / "_proto"
    names = [str(source.relative_to(ROOT)) for source in SOURCES]
    outputs = [f"--python_out={target}", f"--pyi_out={target}"]
    if protoc.main(["protoc", f"-I{ROOT}", f"-I{include}", *outputs, *names]):
        sys.exit("protoc failed")
    stems = [source.relative_to(ROOT).with_suffix("") for source in SOURCES]
    return [Path(f"{stem}_pb2{end}") for stem in stems for end in (".py", ".pyi")]


def main() -> int:
    """Builds or compares; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        build(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory)
        stale = [
            path for path in build(made) if (made / path).read_bytes() != (ROOT / path).read_bytes()
        ]
    for path in stale:
        print(f"{path} is not what protoc makes of its .proto: run scripts/build_protos.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
