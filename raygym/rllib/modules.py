"""RLModules that take pictures as they are, and the filters that fit them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.appo.appo import APPOConfig
from ray.rllib.algorithms.appo.torch.default_appo_torch_rl_module import DefaultAPPOTorchRLModule
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.core.models.torch.primitives import TorchCNN
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from torch import Tensor

from raygym.errors import ConfigError

_LARGE_PX = 48
"""From this size on the first layer divides by four."""
_SMALL_PX = 7
"""Layers are added until both sides are this small."""
_CHANNELS = (16, 32, 32, 32, 32, 32, 32)
_HEAD = [256]


class PictureModule(DefaultPPOTorchRLModule):
    """RLlib's default module for PPO and IMPALA, on uint8 pictures."""

    def setup(self) -> None:
        """Builds the networks; they scale pixels to 0..1 themselves."""
        super().setup()  # type: ignore[no-untyped-call]
        _scale_pixels(self)


class PictureAPPOModule(DefaultAPPOTorchRLModule):
    """RLlib's default module for APPO, on uint8 pictures."""

    def setup(self) -> None:
        """Builds the networks; they scale pixels to 0..1 themselves."""
        super().setup()  # type: ignore[no-untyped-call]
        _scale_pixels(self)


def is_picture(space: gymnasium.Space[Any]) -> bool:
    """Returns whether observations are uint8[H, W, C]."""
    return isinstance(space, gymnasium.spaces.Box) and (
        space.dtype == np.uint8 and len(space.shape) == 3
    )


def module_class(config: AlgorithmConfig) -> type[Any]:
    """Returns the module for pictures that an algorithm's learner can train."""
    return PictureAPPOModule if isinstance(config, APPOConfig) else PictureModule


def conv_filters(height_px: int, width_px: int) -> list[list[int]]:
    """Returns layers ``[channels, kernel, stride]`` that bring both sides down to 7 or less.

    Each pads its input (``same``), so that a side of n becomes ceil(n / stride): any size fits.

    Args:
        height_px: Height of the picture.
        width_px: Its width.

    Raises:
        ConfigError: A side is below 1 or beyond 4096.
    """
    if not (1 <= height_px <= 4096 and 1 <= width_px <= 4096):
        raise ConfigError(f"conv_filters: expected sides of 1 to 4096, got {height_px}x{width_px}")
    layers: list[list[int]] = []
    side = max(height_px, width_px)
    while side > _SMALL_PX or not layers:
        kernel, stride = (8, 4) if not layers and side >= _LARGE_PX else (4, 2)
        layers.append([_CHANNELS[min(len(layers), len(_CHANNELS) - 1)], kernel, stride])
        side = -(-side // stride)
    return layers


def default_model(
    space: gymnasium.Space[Any], *, is_recurrent: bool, lstm_cell_size: int, max_seq_len: int
) -> DefaultModelConfig:
    """Returns the network for an observation space.

    Args:
        space: A uint8 or float Box of three axes, or a float Box of one.
        is_recurrent: Whether an LSTM stands behind it.
        lstm_cell_size: Its size.
        max_seq_len: Steps that gradients go back through it.

    Raises:
        ConfigError: There is no network for such a space.
    """
    axes = len(space.shape) if isinstance(space, gymnasium.spaces.Box) else 0
    if axes not in (1, 3) or (axes == 1 and not np.issubdtype(space.dtype, np.floating)):
        raise ConfigError(
            f"rollout_config: no network for observations {space}; pictures must be [H, W, C] "
            "and vectors of floats: give rl_module_spec, or flatten them with a wrapper"
        )
    recurrent: dict[str, Any] = (
        {"use_lstm": True, "lstm_cell_size": lstm_cell_size, "max_seq_len": max_seq_len}
        if is_recurrent
        else {}
    )
    if axes == 1:
        return DefaultModelConfig(vf_share_layers=is_recurrent, **recurrent)
    height_px, width_px = space.shape[:2]  # type: ignore[index]
    return DefaultModelConfig(
        conv_filters=conv_filters(height_px, width_px),  # type: ignore[arg-type]
        head_fcnet_hiddens=[] if is_recurrent else _HEAD,
        vf_share_layers=True,
        **recurrent,
    )


def _scale_pixels(module: torch.nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, TorchCNN):
            part.register_forward_pre_hook(_to_unit)


def _to_unit(_part: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (pictures,) = inputs
    return (pictures.float() / 255.0 if pictures.dtype == torch.uint8 else pictures,)
