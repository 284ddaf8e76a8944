"""Losses of critic and generator for each distance.

A critic returns logits or scores of any shape, with samples along the first axis; all
patches of a patch critic have the same weight. Losses are means over the batch, so that
a batch processed in parts gives the same gradient.

References
----------
.. [1] Goodfellow et al. Generative adversarial nets. NeurIPS (2014). arXiv:1406.2661
.. [2] Gulrajani et al. Improved training of Wasserstein GANs. NeurIPS (2017).
   arXiv:1704.00028
.. [3] Mao et al. Least squares generative adversarial networks. ICCV (2017).
   doi:10.1109/ICCV.2017.304
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Distance = Literal["jensen-shannon", "wasserstein", "least-squares"]
Critic = Callable[[Tensor], Tensor]


def critic_loss(real: Tensor, fake: Tensor, distance: Distance) -> Tensor:
    """Return the loss of the critic, without the gradient penalty.

    Parameters
    ----------
    real, fake : Tensor
        The critic's output for real and for generated samples.
    distance : {"jensen-shannon", "wasserstein", "least-squares"}
        Jensen-Shannon: binary cross-entropy [1]_. Wasserstein: difference of the means,
        which is the negative of the estimated distance [2]_. Least squares: half the
        squared distance to 1 (real) and 0 (generated) [3]_.
    """
    if distance == "wasserstein":
        return fake.mean() - real.mean()
    if distance == "least-squares":
        return 0.5 * ((real - 1).square().mean() + fake.square().mean())
    # For a logit x, the cross-entropy is softplus(-x) for label 1, softplus(x) for 0.
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(fake: Tensor, distance: Distance) -> Tensor:
    """Return the generator's loss: small if its samples are scored as real."""
    if distance == "wasserstein":
        return -fake.mean()
    if distance == "least-squares":
        return 0.5 * (fake - 1).square().mean()
    return functional.softplus(-fake).mean()


def gradient_penalty(
    critic: Critic, real: Tensor, fake: Tensor, condition: Tensor | None = None
) -> Tensor:
    """Return the penalty on the difference of the critic's gradient norm from 1 [2]_.

    ``mean((|∇ critic(u)| - 1)²)`` with ``u = e · real + (1 - e) · fake`` and one random
    ``e`` between 0 and 1 for each sample. The norm of a sample is taken over all its
    channels and voxels; the scores of a patch critic are averaged over its patches.

    Parameters
    ----------
    critic : callable
        Must support second-order gradients. It must not contain batch norm, which would
        mix the samples.
    real, fake : Tensor of shape (N, C, [Z,] Y, X)
    condition : Tensor of shape (N, K, [Z,] Y, X), optional
        Channels that precede the image channels in the critic's input. They are the
        same for real and generated images, so the gradient is taken with respect to the
        image alone.
    """
    real, fake = real.detach().float(), fake.detach().float()
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
    mixed = torch.lerp(fake, real, share).requires_grad_(True)
    with torch.enable_grad():
        image = mixed
        if condition is not None:
            image = torch.cat([condition.detach().float(), mixed], dim=1)
        scores = critic(image).float().reshape(len(real), -1).mean(dim=1)
        (gradient,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
    norm = gradient.flatten(1).square().sum(dim=1).add(1e-12).sqrt()
    return (norm - 1).square().mean()
