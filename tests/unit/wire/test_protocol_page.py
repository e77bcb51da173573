"""What docs/protocol.md says in numbers and bytes is so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from raygym.wire import arrays, framing, leaves, values
from raygym.wire import spaces as space_messages
from raygym.wire.dm_specs import MAX_TEXT_LENGTH
from raygym.wire.proto import raygym_v1_pb2 as pb

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()


def block(name: str) -> bytes:
    found = re.search(rf"```{name}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return bytes.fromhex(found[1])


def test_the_first_request_is_as_shown():
    request = pb.Request(id=1, hello=pb.Hello(version=1)).SerializeToString()
    assert block("hello") == request
    assert block("hello-frame") == framing.frame(request)


def test_the_space_is_as_shown():
    space = space_messages.space_to_message(spaces.Box(-1, 1, (4,), np.float32))
    assert block("box") == space.SerializeToString()


def test_the_step_is_as_shown():
    actions = leaves.leaves_to_messages(leaves.stack_values(spaces.Discrete(2), [1, 0]))
    request = pb.Request(id=4, step=pb.Step(envs=[0, 1], actions=actions))
    assert block("step") == request.SerializeToString()


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("axes of an array", arrays.MAX_DIMENSIONS),
        ("elements of an array, an axis of length 0 counted as 1", arrays.MAX_ELEMENTS),
        ("spaces within one", space_messages.MAX_SPACES),
        ("Dicts and Tuples within each other", space_messages.MAX_SPACE_DEPTH),
        ("numbers in one value of a space", space_messages.MAX_SPACE_ELEMENTS),
        ("lists and maps of a Value within each other", values.MAX_DEPTH),
    ],
)
def test_a_limit_is_as_stated(row, value):
    found = re.search(rf"^\| {re.escape(row)} \| (.*) \|$", PAGE, re.MULTILINE)
    assert found is not None
    base, _, exponent = found[1].replace(",", "").partition("^")
    assert int(base) ** int(exponent or 1) == value


def test_the_other_numbers_are_as_stated():
    assert f"{framing.MAX_MESSAGE_BYTES:,} bytes" in PAGE
    assert f"a multiple of {leaves.ALIGNMENT_BYTES} bytes" in PAGE
    assert f"up to {MAX_TEXT_LENGTH:,} characters" in PAGE


def test_every_field_and_code_of_an_error_has_its_row():
    for code in pb.Error.Code.keys():  # noqa: SIM118 - an enum wrapper, not a dict
        assert f"`{code}`" in PAGE
    for mode in pb.Autoreset.keys():  # noqa: SIM118 - an enum wrapper, not a dict
        assert f"`{mode}`" in PAGE
