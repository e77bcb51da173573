"""A network's weights as one vector, so that one operation moves, averages or measures them all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raygym.core import Float32Array
from raygym.errors import ConfigError


class FlatParameters:
    """Lays all parameters of a network, and their gradients, into two vectors.

    The parameters become views of ``weights``, their gradients views of ``gradient``. Weights of
    convolutions keep their channels last.

    Args:
        network: Whose parameters; changed in place.
        spare: How many numbers lie behind the gradient, for what travels with it.
    """

    def __init__(self, network: nn.Module, *, spare: int = 0) -> None:
        parameters = list(network.parameters())
        self.size = sum(p.numel() for p in parameters)
        """Number of parameters, N."""
        self.weights = torch.zeros(self.size)
        """float32[N]."""
        self.sums = torch.zeros(self.size + spare)
        """float32[N + spare]: the gradient, and what travels with it."""
        self.gradient = self.sums[: self.size]
        """float32[N]."""
        self._buffers = list(network.buffers())
        start = 0
        for parameter in parameters:
            stop = start + parameter.numel()
            held = _shaped(self.weights[start:stop], parameter)
            held.copy_(parameter.data)
            parameter.data = held
            parameter.grad = _shaped(self.gradient[start:stop], parameter)
            start = stop

    def pack(self) -> Float32Array:
        """Returns a copy of all weights, and the buffers behind them, as float32[M]."""
        parts = [self.weights, *(b.flatten() for b in self._buffers)]
        packed: Float32Array = torch.cat(parts).numpy()
        return packed

    def unpack(self, vector: Float32Array) -> None:
        """Takes over what ``pack`` returned.

        Raises:
            ConfigError: It is of another network.
        """
        held = torch.from_numpy(vector)
        size = self.size + sum(b.numel() for b in self._buffers)
        if held.shape != (size,):
            raise ConfigError(
                f"these weights have {held.numel()} numbers, the network has {size}: they belong "
                "to another network"
            )
        with torch.no_grad():
            self.weights.copy_(held[: self.size])
            start = self.size
            for buffer in self._buffers:
                stop = start + buffer.numel()
                buffer.copy_(held[start:stop].view_as(buffer))
                start = stop


def _shaped(part: Tensor, like: Tensor) -> Tensor:
    """Returns a view of float32[n] in the shape of ``like``, channels last for convolutions."""
    if like.dim() != 4:
        return part.view(like.shape)
    out, channels, height, width = like.shape
    return part.view(out, height, width, channels).permute(0, 3, 1, 2)
