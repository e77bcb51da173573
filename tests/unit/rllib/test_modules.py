from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from raygym.errors import ConfigError
from raygym.rllib.modules import (
    PictureAPPOModule,
    PictureModule,
    conv_filters,
    default_model,
    is_picture,
    module_class,
)

ACTIONS = gymnasium.spaces.Discrete(5)


def pictures(*shape: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(0, 255, shape, np.uint8)


def built(space: gymnasium.spaces.Box, *, is_recurrent: bool = False) -> PictureModule:
    model = default_model(space, is_recurrent=is_recurrent, lstm_cell_size=16, max_seq_len=5)
    spec = RLModuleSpec(
        module_class=PictureModule,
        observation_space=space,
        action_space=ACTIONS,
        model_config=model,
    )
    return spec.build()


@pytest.mark.parametrize(
    "shape",
    [(72, 96, 1), (84, 84, 4), (40, 40, 4), (128, 200, 1), (12, 12, 4), (3, 50, 3)],
)
def test_the_filters_fit_pictures_of_any_size(shape: tuple[int, int, int]) -> None:
    module = built(pictures(*shape))
    seen = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)

    out = module.forward_inference({Columns.OBS: seen})

    assert out[Columns.ACTION_DIST_INPUTS].shape == (2, 5)
    sides = list(shape[:2])
    for _, _, stride in conv_filters(*shape[:2]):
        sides = [-(-side // stride) for side in sides]
    assert max(sides) <= 7


def test_pixels_count_as_their_share_of_the_brightest() -> None:
    module = built(pictures(12, 12, 1))
    bytes_ = torch.randint(0, 256, (3, 12, 12, 1), dtype=torch.uint8)

    of_bytes = module.forward_inference({Columns.OBS: bytes_})[Columns.ACTION_DIST_INPUTS]
    of_floats = module.forward_inference({Columns.OBS: bytes_.float() / 255})

    assert torch.allclose(of_bytes, of_floats[Columns.ACTION_DIST_INPUTS])


def test_values_are_of_scaled_pixels_too() -> None:
    module = built(pictures(12, 12, 1))
    bytes_ = torch.randint(0, 256, (3, 12, 12, 1), dtype=torch.uint8)

    of_bytes = module.compute_values({Columns.OBS: bytes_})

    assert torch.allclose(of_bytes, module.compute_values({Columns.OBS: bytes_.float() / 255}))


def test_a_recurrent_network_sees_pictures_over_time() -> None:
    module = built(pictures(12, 12, 1), is_recurrent=True)
    state = {k: torch.zeros(2, 1, 16) for k in module.get_initial_state()}
    seen = torch.zeros((2, 3, 12, 12, 1), dtype=torch.uint8)

    out = module.forward_inference({Columns.OBS: seen, Columns.STATE_IN: state})

    assert out[Columns.ACTION_DIST_INPUTS].shape == (2, 3, 5)


def test_only_bytes_on_three_axes_are_a_picture() -> None:
    assert is_picture(pictures(4, 4, 1))
    assert not is_picture(pictures(4, 4))
    assert not is_picture(gymnasium.spaces.Box(0, 1, (4, 4, 1), np.float32))
    assert not is_picture(gymnasium.spaces.Discrete(3))


def test_appo_gets_a_module_with_target_networks() -> None:
    assert module_class(APPOConfig()) is PictureAPPOModule
    assert module_class(PPOConfig()) is PictureModule


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Discrete(3),
        pictures(4, 4),
        gymnasium.spaces.Box(0, 9, (4,), np.int64),
        gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2)}),
    ],
)
def test_observations_without_a_network_are_refused(space: gymnasium.Space[object]) -> None:
    with pytest.raises(ConfigError, match="no network for observations"):
        default_model(space, is_recurrent=False, lstm_cell_size=16, max_seq_len=5)


def test_sides_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="0x5"):
        conv_filters(0, 5)
