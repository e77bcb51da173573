from __future__ import annotations

import pytest

from raygym.config import VncOptions
from raygym.wire.encodings import (
    COARSE_QUALITIES,
    Encoding,
    coarse_level,
    requested_encodings,
    understood_options,
)


def test_tight_asks_for_coarse_quality_before_fine_and_subsampling_last():
    options = VncOptions(fine_quality_level=50, subsample_level=2, compress_level=1)
    numbers = requested_encodings(options)
    assert numbers[0] == Encoding.TIGHT
    assert numbers[-3:] == [-32 + 3, -512 + 50, -768 + 2]
    assert -256 + 1 in numbers


def test_tight_without_a_quality_asks_for_lossless_pictures():
    numbers = requested_encodings(VncOptions(fine_quality_level=None, subsample_level=2))
    assert not [n for n in numbers if -32 <= n <= -23 or -512 <= n <= -412 or -768 <= n <= -765]


@pytest.mark.parametrize(("encoding", "number"), [("raw", 0), ("zrle", 16), ("tight", 7)])
def test_the_preferred_encoding_comes_first(encoding, number):
    numbers = requested_encodings(VncOptions(encoding=encoding))
    assert numbers[0] == number
    assert {Encoding.RAW, Encoding.COPY_RECT, Encoding.DESKTOP_SIZE, Encoding.LAST_RECT} <= set(
        numbers
    )


def test_raw_asks_for_no_compression():
    numbers = requested_encodings(VncOptions(encoding="raw"))
    assert set(numbers) == {0, 1, -223, -224}


@pytest.mark.parametrize("level", range(10))
def test_a_coarse_level_stands_for_its_own_quality(level):
    assert coarse_level(COARSE_QUALITIES[level]) == level


@pytest.mark.parametrize(
    "options",
    [
        VncOptions(),
        VncOptions(encoding="raw", fine_quality_level=None, subsample_level=None),
        VncOptions(
            encoding="zrle", fine_quality_level=None, subsample_level=None, compress_level=9
        ),
        VncOptions(fine_quality_level=100, subsample_level=0, compress_level=0),
        VncOptions(fine_quality_level=0, subsample_level=3),
        VncOptions(fine_quality_level=None, subsample_level=None),
    ],
)
def test_a_server_understands_what_a_client_asks_for(options):
    assert understood_options(requested_encodings(options)) == options


def test_a_coarse_quality_alone_is_understood():
    assert understood_options([7, -32 + 9]).fine_quality_level == 100


def test_a_client_that_asks_for_nothing_known_gets_raw():
    assert understood_options([-239, 5, 6]).encoding == "raw"
    assert understood_options([]).encoding == "raw"
