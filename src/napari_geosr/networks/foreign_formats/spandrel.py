"""Networks for planes that the library spandrel knows (super-resolution, denoising).

spandrel (MIT licence) recognises an architecture by the names and shapes of its tensors
and has the code of some forty of them. It is optional: the extra ``zoo``.
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

#: Architectures that are not for images as such: faces, holes to be filled.
NOT_OFFERED = frozenset({"GFPGAN", "RestoreFormer", "LaMa"})
_importing = threading.Lock()


def library() -> Any:
    """Import spandrel.

    Raises
    ------
    ConfigError
        With the line that installs it, if it is not there.
    """
    with _importing:
        try:
            with _torchvision_is_there():
                import spandrel
        except ImportError as error:
            raise ConfigError(
                "This model needs the library spandrel, which is not installed "
                f"({error}). Install it: pip install 'napari-geosr[zoo]'"
            ) from error
    return spandrel


@contextmanager
def _torchvision_is_there() -> Iterator[None]:
    """Let spandrel be imported beside a torchvision that cannot be.

    spandrel takes three functions from torchvision, all for `NOT_OFFERED`. The one that
    package indices have is made for torch with CUDA: beside a CPU build of torch its
    import fails with a RuntimeError. Then it is left out, for this import alone.
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
    """The network of a spandrel descriptor, as its own call runs it.

    Without what that call adds: padding, limits of the result, inference mode.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.model: nn.Module = descriptor.model
        #: Some architectures take a map of the noise level, or give several results.
        self._call = getattr(descriptor, "_call_fn", None)

    def forward(self, x: Tensor) -> Tensor:
        """Restore ``(N, channels, Y, X)``, values from 0 to 1."""
        y: Tensor = self.model(x) if self._call is None else self._call(self.model, x)
        return y


def build(settings: AnyMapping, weights: Mapping[str, Tensor]) -> nn.Module:
    """Build the architecture that `settings` names, of the shape of its tensors."""
    spandrel = library()
    name = str(settings.get("architecture"))
    if name in NOT_OFFERED or name not in spandrel.MAIN_REGISTRY:
        raise ConfigError(
            f"spandrel {version()} has no architecture {name!r} for images. Update it: "
            "pip install -U spandrel"
        )
    own = {key.removeprefix("model."): tensor for key, tensor in weights.items()}
    architecture = spandrel.MAIN_REGISTRY[name].architecture
    return SpandrelNetwork(architecture.load(own))


def version() -> str:
    """Version of the library that is installed."""
    from importlib.metadata import version as of

    return of("spandrel")
