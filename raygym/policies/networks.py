"""The network of universe-starter-agent: convolutions, an LSTM, a policy and a value.

T is time and B the number of slots, as everywhere in this package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from raygym.errors import ConfigError

State: TypeAlias = tuple[Tensor, Tensor]
"""Recurrent state (h, c), each float32[B, lstm_size]; zeros at the start of an episode."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The size of an ActorCritic."""

    observation_shape: tuple[int, int, int]
    """Height, width and channels."""
    action_count: int
    """Number of Discrete actions."""
    filter_count: int = 32
    """Filters of each convolution."""
    conv_count: int = 4
    """Number of convolutions; each halves height and width."""
    lstm_size: int = 256
    """Units of the LSTM."""

    def __post_init__(self) -> None:
        shape = self.observation_shape
        if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
            raise ConfigError(
                "NetworkConfig.observation_shape: expected (height, width, channels), all above "
                f"zero, got {shape!r}"
            )
        for name in ("action_count", "filter_count", "conv_count", "lstm_size"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"NetworkConfig.{name}: expected at least 1, got {getattr(self, name)!r}"
                )


class SameConv(nn.Conv2d):
    """A 3x3 convolution of stride 2 whose output is ``ceil(size / 2)``: TensorFlow's SAME.

    Where the padding is odd, the extra row and column go to the bottom and the right.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, stride=2)
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        """Maps float32[N, C, H, W] to float32[N, out_channels, ceil(H/2), ceil(W/2)]."""
        height, width = pictures.shape[-2:]
        rows, columns = 1 + height % 2, 1 + width % 2
        padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return super().forward(functional.pad(pictures, padding))


class ActorCritic(nn.Module):
    """Policy logits and value of a stream of pictures.

    Args:
        config: Its size. The initial weights come from torch's global generator.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        height, width, channels = config.observation_shape
        convolutions: list[nn.Module] = []
        for _ in range(config.conv_count):
            convolutions += [SameConv(channels, config.filter_count), nn.ELU(inplace=True)]
            channels, height, width = config.filter_count, -(-height // 2), -(-width // 2)
        self.convolutions = nn.Sequential(*convolutions)
        self.lstm = nn.LSTMCell(channels * height * width, config.lstm_size)
        self.policy = nn.Linear(config.lstm_size, config.action_count)
        self.value = nn.Linear(config.lstm_size, 1)
        _init_lstm(self.lstm)
        _init_normalised_columns(self.policy, std=0.01)
        _init_normalised_columns(self.value, std=1.0)

    def initial_state(self, batch: int) -> State:
        """Returns the state at the start of an episode: zeros, float32[batch, lstm_size] twice."""
        zeros = torch.zeros(batch, self.config.lstm_size)
        return zeros, zeros.clone()

    def forward(
        self, observations: Tensor, state: State, is_first: Tensor
    ) -> tuple[Tensor, Tensor, State]:
        """Runs over T steps of B slots.

        Args:
            observations: uint8[T, B, H, W, C].
            state: Before step 0.
            is_first: bool[T, B]; True where an episode starts, so that the state is zeroed
                before that step.

        Returns:
            logits float32[T, B, action_count], values float32[T, B], and the state after
            step T - 1.
        """
        steps, batch = observations.shape[:2]
        pictures = observations.flatten(0, 1).permute(0, 3, 1, 2).float() / 255.0
        features = self.convolutions(pictures).flatten(1).unflatten(0, (steps, batch))
        # The inputs' share of the gates needs no step before: one product for all of them.
        inputs = functional.linear(features, self.lstm.weight_ih, self.lstm.bias_ih)
        keep = (~is_first).float().unsqueeze(-1)
        hidden, cell = state
        outputs = []
        for t in range(steps):
            hidden, cell = self._lstm_step(inputs[t], hidden * keep[t], cell * keep[t])
            outputs.append(hidden)
        output = torch.stack(outputs)
        return self.policy(output), self.value(output).squeeze(-1), (hidden, cell)

    def _lstm_step(self, inputs: Tensor, hidden: Tensor, cell: Tensor) -> State:
        """Hochreiter and Schmidhuber's cell with a forget gate, as ``torch.nn.LSTMCell``.

        Args:
            inputs: float32[B, 4 * lstm_size], the observation's share of the gates.
            hidden: float32[B, lstm_size].
            cell: float32[B, lstm_size].
        """
        gates = inputs + functional.linear(hidden, self.lstm.weight_hh, self.lstm.bias_hh)
        enter, forget, content, leave = gates.chunk(4, dim=-1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * content.tanh()
        return leave.sigmoid() * cell.tanh(), cell


def _init_lstm(lstm: nn.LSTMCell) -> None:
    bound = math.sqrt(6 / (lstm.input_size + 5 * lstm.hidden_size))
    nn.init.uniform_(lstm.weight_ih, -bound, bound)
    nn.init.uniform_(lstm.weight_hh, -bound, bound)
    nn.init.zeros_(lstm.bias_ih)
    nn.init.zeros_(lstm.bias_hh)
    with torch.no_grad():
        # The forget gate, second of torch's four, starts open.
        lstm.bias_ih[lstm.hidden_size : 2 * lstm.hidden_size] = 1.0


def _init_normalised_columns(layer: nn.Linear, *, std: float) -> None:
    """Draws weights whose norm is ``std`` for each output; zeroes the bias."""
    with torch.no_grad():
        layer.weight.normal_()
        layer.weight.mul_(std / layer.weight.norm(dim=1, keepdim=True))
        layer.bias.zero_()
