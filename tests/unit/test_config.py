from __future__ import annotations

import pytest

from raygym.config import ObservationConfig, VncOptions
from raygym.errors import ConfigError


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"encoding": "hextile"}, "encoding.*hextile"),
        ({"fine_quality_level": 101}, "fine_quality_level.*0 to 100.*101"),
        ({"subsample_level": 4}, "subsample_level.*0 to 3.*4"),
        ({"compress_level": -1}, "compress_level.*0 to 9.*-1"),
    ],
)
def test_a_vnc_option_out_of_range_is_named_with_its_range(fields, named):
    with pytest.raises(ConfigError, match=named):
        VncOptions(**fields)


def test_universe_s_vnc_options_are_the_default():
    options = VncOptions()
    assert (options.encoding, options.fine_quality_level, options.subsample_level) == (
        "tight",
        50,
        2,
    )


def test_an_observation_has_both_sizes_or_none():
    with pytest.raises(ConfigError, match="both height_px and width_px"):
        ObservationConfig(height_px=84)


def test_an_observation_size_out_of_range_is_refused():
    with pytest.raises(ConfigError, match=r"width_px.*1 to 4096.*0"):
        ObservationConfig(height_px=84, width_px=0)


@pytest.mark.parametrize(
    "crop", [(0, 0, 0, 5), (-1, 0, 3, 3), (0, 0, 3), (0, 0, 9000, 3), (0.5, 0, 3, 3), "abcd"]
)
def test_a_crop_that_makes_no_sense_is_refused(crop):
    with pytest.raises(ConfigError, match=r"ObservationConfig\.crop: expected \(x, y, width"):
        ObservationConfig(crop=crop)


def test_a_crop_may_be_given_as_any_four_whole_numbers():
    assert ObservationConfig(crop=[0, 34, 160, 160]).crop == (0, 34, 160, 160)
