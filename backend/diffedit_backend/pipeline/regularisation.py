"""Keeping inverted noise like noise: the regularisation of pix2pix-zero (Parmar et al., arXiv 2302.03027, section
3.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# The pyramid of the auto-correlation ends at a map of this height.
SMALLEST_MAP = 8
# Keeps the logarithm of a vanishing variance finite.
VARIANCE_FLOOR = 1e-7


@dataclass(frozen=True)
class Regularisation:
    """How strongly noise is drawn towards white (`auto_correlation`) standard normal (`kl`) noise, and how often.

    steps: 0 leaves predictions as they are. rolls: random shifts per step of the auto-correlation.
    """

    steps: int = 0
    auto_correlation: float = 20.0
    kl: float = 20.0
    rolls: int = 5


def auto_correlation_loss(noise: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Sum of squared correlations of every plane with itself, shifted by a random amount, over a pyramid of halved
    sizes.

    noise: (B, C, h, w). Shifts are drawn from `generator` on the CPU.
    """
    loss = noise.new_zeros(())
    for plane in noise.flatten(0, 1):
        level = plane[None, None]
        while True:
            shift = int(torch.randint(level.shape[2] // 2, (1,), generator=generator).item())
            for axis in (2, 3):
                loss = loss + (level * torch.roll(level, shifts=shift, dims=axis)).mean() ** 2
            if level.shape[2] <= SMALLEST_MAP:
                break
            level = torch.nn.functional.avg_pool2d(level, kernel_size=2)
    return loss


def kl_loss(noise: Tensor) -> Tensor:
    """Twice the Kullback-Leibler divergence of a normal of noise's mean and variance from the standard normal."""
    variance = noise.var()
    return variance + noise.mean() ** 2 - 1 - torch.log(variance + VARIANCE_FLOOR)


def regularise(
    output: Tensor,
    noise_of: Callable[[Tensor], Tensor],
    how: Regularisation,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Gradient descent on the network's `output` (B, C, h, w), on the losses of the noise that it stands for.

    noise_of: the noise of an output, differentiable.
    """

    def gradient(at: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            variable = at.detach().clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(loss(noise_of(variable)), variable)
        return slope

    for _ in range(how.steps):
        if how.auto_correlation > 0:
            for _ in range(how.rolls):
                slope = gradient(output, lambda noise: auto_correlation_loss(noise, generator)) / how.rolls
                output = output - how.auto_correlation * slope
        if how.kl > 0:
            output = output - how.kl * gradient(output, kl_loss)
    return output
