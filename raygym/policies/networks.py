"""Two networks, each with a policy and a value: universe-starter-agent's, and one without memory.

T is time and B the number of slots, as everywhere in this package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from raygym.errors import ConfigError

State: TypeAlias = tuple[Tensor, ...]
"""Recurrent state: (h, c), each float32[B, lstm_size], zeros at the start of an episode; or ()."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Which network, and its size."""

    observation_shape: tuple[int, ...]
    """Height, width and channels of a picture; or one number, the length of a vector."""
    action_count: int
    """Number of Discrete actions."""
    filter_count: int = 32
    """Filters of each convolution."""
    conv_count: int = 4
    """Number of convolutions; each halves height and width. None for vectors."""
    lstm_size: int = 256
    """Units of the LSTM."""
    core: Literal["lstm", "feedforward"] = "lstm"
    """Whether the network remembers: ``ActorCritic``, or ``FeedForward``. Vectors need the
    second."""
    hidden_size: int = 256
    """Units of the hidden layer of ``FeedForward``; of each of its two for vectors."""
    input_mean: float = 0.0
    """What ``FeedForward`` takes from its inputs at first, before anybody measured them."""
    input_deviation: float | None = None
    """What it divides them by; None: 255 for pictures, 1 for vectors."""

    def __post_init__(self) -> None:
        if self.core not in ("lstm", "feedforward"):
            raise ConfigError(
                f"NetworkConfig.core: expected lstm or feedforward, got {self.core!r}"
            )
        shape = self.observation_shape
        lengths = (3,) if self.core == "lstm" else (1, 3)
        if len(shape) not in lengths or not all(isinstance(n, int) and n > 0 for n in shape):
            or_vector = "" if self.core == "lstm" else " or (length,)"
            raise ConfigError(
                f"NetworkConfig.observation_shape: expected (height, width, channels){or_vector}, "
                f"all above zero, got {shape!r}"
            )
        for name in ("action_count", "filter_count", "conv_count", "lstm_size", "hidden_size"):
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
    """Policy logits and value of a stream of pictures, with an LSTM.

    Args:
        config: Its size; ``core`` is ``lstm``. The initial weights come from torch's global
            generator.
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

    def _lstm_step(self, inputs: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
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


class FeedForward(nn.Module):
    """Policy logits and value of single observations, without memory.

    Pictures go through convolutions and one hidden layer, vectors through two hidden layers for
    the policy and two of their own for the value. Weights start orthogonal (Saxe et al., 2014),
    the policy's small. Inputs are shifted and scaled by ``input_mean`` and ``input_scale``,
    which are part of its state and not learned.

    Args:
        config: Its size; ``core`` is ``feedforward``. The initial weights come from torch's
            global generator.
    """

    input_mean: Tensor
    """float32[]."""
    input_scale: Tensor
    """float32[]: one over the standard deviation."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        is_picture = len(config.observation_shape) == 3
        deviation = config.input_deviation or (255.0 if is_picture else 1.0)
        self.register_buffer("input_mean", torch.tensor(config.input_mean))
        self.register_buffer("input_scale", torch.tensor(1.0 / deviation))
        self.convolutions = nn.Sequential()
        units = config.hidden_size
        if is_picture:
            size = self._add_convolutions(config)
            self.hidden = nn.Sequential(nn.Linear(size, units), nn.ReLU())
            self.value_hidden = nn.Sequential()
        else:
            self.hidden = _two_layers(config.observation_shape[0], units)
            self.value_hidden = _two_layers(config.observation_shape[0], units)
        self.policy = nn.Linear(config.hidden_size, config.action_count)
        self.value = nn.Linear(config.hidden_size, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                _init_orthogonal(layer, gain=math.sqrt(2))
        _init_orthogonal(self.policy, gain=0.01)
        _init_orthogonal(self.value, gain=1.0)

    def initial_state(self, batch: int) -> State:  # noqa: ARG002 - as ActorCritic has it
        """Returns an empty state."""
        return ()

    def set_input(self, mean: float, deviation: float) -> None:
        """Has inputs shifted by ``mean`` and divided by ``deviation``, if that is above zero."""
        self.input_mean.fill_(mean)
        self.input_scale.fill_(1.0 / deviation if deviation > 0 else 1.0)

    def forward(
        self,
        observations: Tensor,
        state: State = (),
        is_first: Tensor | None = None,  # noqa: ARG002 - as ActorCritic has it
    ) -> tuple[Tensor, Tensor, State]:
        """Answers each observation by itself.

        Args:
            observations: uint8 or float32[..., H, W, C] or [..., N]; any leading dimensions.
            state: Handed back as it is.
            is_first: Not needed here.

        Returns:
            logits float32[..., action_count], values float32[...], and ``state``.
        """
        leading = observations.shape[: -len(self.config.observation_shape)]
        inputs = observations.flatten(0, len(leading) - 1)
        features = (inputs.float() - self.input_mean).mul_(self.input_scale)
        if len(self.config.observation_shape) == 3:
            # Channels come last, so this is torch's channels_last without a copy.
            features = self.convolutions(features.permute(0, 3, 1, 2)).flatten(1)
        answered = self.hidden(features)
        valued = self.value_hidden(features) if len(self.value_hidden) else answered
        logits, values = self.policy(answered), self.value(valued).squeeze(-1)
        return logits.unflatten(0, leading), values.unflatten(0, leading), state

    def _add_convolutions(self, config: NetworkConfig) -> int:
        """Adds those of a picture and returns the number of features that come out."""
        height, width, channels = config.observation_shape
        for _ in range(config.conv_count):
            convolution = nn.Conv2d(channels, config.filter_count, 3, stride=2, padding=1)
            self.convolutions.extend([convolution, nn.ReLU(inplace=True)])
            channels, height, width = config.filter_count, -(-height // 2), -(-width // 2)
        return channels * height * width


Network: TypeAlias = ActorCritic | FeedForward
"""Whichever a NetworkConfig asks for."""


def make_network(config: NetworkConfig) -> Network:
    """Builds the network that ``config.core`` names; weights come from torch's generator."""
    return ActorCritic(config) if config.core == "lstm" else FeedForward(config)


def _two_layers(inputs: int, units: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, units), nn.Tanh(), nn.Linear(units, units), nn.Tanh())


def _init_orthogonal(layer: nn.Conv2d | nn.Linear, *, gain: float) -> None:
    nn.init.orthogonal_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


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
