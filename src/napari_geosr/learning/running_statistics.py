"""Compute batch-norm statistics only from images like those to be restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def frozen_statistics(network: nn.Module | Callable[..., Any]) -> Iterator[None]:
    """Keep `network` from updating its batch-norm statistics (a context manager).

    A trained model normalises by its running statistics. Methods that also pass images
    of another kind through the network would distort these statistics. Callables that
    are not modules, such as filters for comparison, have no batch norm.
    """
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    parts = network.modules() if isinstance(network, nn.Module) else ()
    norms = [part for part in parts if isinstance(part, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
