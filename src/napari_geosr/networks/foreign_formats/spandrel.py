"""2D networks supported by the library spandrel (super-resolution, denoising).

spandrel (MIT licence) recognises an architecture by the names and shapes of its tensors
and contains the code of about forty architectures. It is optional: install the
extra ``zoo``.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from torch import nn

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyMapping

if TYPE_CHECKING:
    from torch import Tensor

#: Architectures that cannot be imported, because they serve special tasks: face
#: restoration and inpainting.
UNSUPPORTED = frozenset({"GFPGAN", "RestoreFormer", "LaMa"})
_importing = threading.Lock()


def library() -> Any:
    """Import spandrel.

    Raises
    ------
    ConfigError
        If it is not installed; the message contains the command that installs it.
    """
    with _importing:
        try:
            with _torchvision_stubs():
                import spandrel
        except ImportError as error:
            raise ConfigError(
                "This model needs the library spandrel, which is not installed "
                f"({error}). Install it: pip install 'napari-geosr[zoo]'"
            ) from error
    return spandrel


@contextmanager
def _torchvision_stubs() -> Iterator[None]:
    """Allow spandrel to be imported even if torchvision cannot be imported.

    spandrel needs torchvision only for the architectures in `UNSUPPORTED`. On PyPI,
    torchvision is built for torch with CUDA; with a CPU build of torch, its import
    fails with a RuntimeError. In this case, stub modules replace torchvision while
    spandrel is imported.
    """
    try:
        import torchvision.transforms.functional  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        pass
    else:
        yield
        return
    names = (
        "torchvision",
        "torchvision.transforms",
        "torchvision.transforms.functional",
    )
    before = {name: sys.modules.get(name) for name in names}
    for name in names:
        sys.modules[name] = ModuleType(name)
    last = sys.modules[names[-1]]
    for function in ("InterpolationMode", "rotate", "normalize"):
        setattr(last, function, None)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class SpandrelNetwork(nn.Module):
    """The network of a spandrel descriptor.

    It computes the same values as the descriptor's own call, except for padding,
    clipping and inference mode.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.model: nn.Module = descriptor.model
        #: Function that calls the model, if it takes a noise map or returns several
        #: results; otherwise None.
        self._call = getattr(descriptor, "_call_fn", None)

    def forward(self, x: Tensor) -> Tensor:
        """Restore ``(N, channels, Y, X)``, values from 0 to 1."""
        y: Tensor = self.model(x) if self._call is None else self._call(self.model, x)
        return y


def build(settings: AnyMapping, weights: Mapping[str, Tensor]) -> nn.Module:
    """Build the architecture named in `settings`, shaped according to its tensors."""
    spandrel = library()
    name = str(settings.get("architecture"))
    if name in UNSUPPORTED or name not in spandrel.MAIN_REGISTRY:
        raise ConfigError(
            f"spandrel {version()} has no architecture {name!r} for images. Update it: "
            "pip install -U spandrel"
        )
    own = {key.removeprefix("model."): tensor for key, tensor in weights.items()}
    architecture = spandrel.MAIN_REGISTRY[name].architecture
    return SpandrelNetwork(architecture.load(own))


def version() -> str:
    """Return the version of the installed library."""
    from importlib.metadata import version as of

    return of("spandrel")
