"""Registries whose keys are file names: listing them imports nothing heavy."""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

from napari_geosr.core.errors import ConfigError


@cache
def _brought(look: Callable[..., Iterable[EntryPoint]], group: str) -> list[EntryPoint]:
    """What third parties bring; looked up once, as it takes 10 ms in a full venv."""
    return list(look(group=group))


@cache
def _usable(
    look: Callable[..., Iterable[EntryPoint]],
    registry: Registry,
    required: tuple[tuple[str, Any], ...],
) -> tuple[Any, ...]:
    """All modules that can be used; `look` is what they were found with."""
    found = []
    for name, path in registry.modules().items():
        try:
            module = registry.load(name)
            _check(registry, name, module, required)
        except ConfigError as error:
            if registry.is_own(path):
                raise
            # One of another package must not keep the others from being used.
            logging.getLogger(__name__).warning("%s", error)
        else:
            found.append(module)
    return tuple(found)


def _check(
    registry: Registry, name: str, module: Any, required: tuple[tuple[str, Any], ...]
) -> None:
    """Raise `ConfigError` if a module does not offer what it has to."""
    for attribute, kind in required:
        if not isinstance(getattr(module, attribute, None), kind):
            what = "a wrong" if hasattr(module, attribute) else "no"
            raise ConfigError(
                f"The {registry.noun} {name!r} cannot be used: its module "
                f"{module.__name__} has {what} {attribute}. Update or uninstall the "
                "package that brings it."
            )


@dataclass(frozen=True)
class Registry:
    """Modules of one package, plus those that third parties bring by entry points.

    Parameters
    ----------
    package : str
        Dotted name of the folder, e.g. ``"napari_geosr.networks"``.
    group : str
        Entry-point group of third parties; the entry point names a module.
    noun : str
        What an entry is called in messages.
    not_entries : frozenset of str
        Module names in the folder that are not entries.
    """

    package: str
    group: str
    noun: str
    not_entries: frozenset[str] = frozenset()

    def modules(self) -> dict[str, str]:
        """Dotted module name by key; raises `ConfigError` on a duplicate key."""
        spec = find_spec(self.package)
        locations = spec.submodule_search_locations if spec else None
        found = {
            info.name: f"{self.package}.{info.name}"
            for info in pkgutil.iter_modules(locations)
            if not info.name.startswith("_") and info.name not in self.not_entries
        }
        for point in _brought(entry_points, self.group):
            if found.get(point.name, point.module) != point.module:
                raise ConfigError(
                    f"Two {self.noun}s are called {point.name!r}: {found[point.name]} "
                    f"and {point.module}. Uninstall one of the two packages."
                )
            found[point.name] = point.module
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """Names of everything registered, in alphabetical order."""
        return list(self.modules())

    def key(self, name: str) -> str:
        """The key that `name` means: hyphens may stand for underscores.

        A name that means none is returned as it is.
        """
        known = self.modules()
        if name in known:
            return name
        alike = [
            key for key in known if key.replace("-", "_") == name.replace("-", "_")
        ]
        return alike[0] if len(alike) == 1 else name

    def load(self, name: str) -> Any:
        """Import and return the module registered as `name`, see :meth:`key`.

        Raises
        ------
        ConfigError
            If there is none, or it cannot be imported.
        """
        modules, name = self.modules(), self.key(name)
        if name not in modules:
            raise ConfigError(
                f"There is no {self.noun} {name!r}. Known: {', '.join(modules)}."
            )
        try:
            return import_module(modules[name])
        except Exception as error:
            if self.is_own(modules[name]) and not isinstance(error, ImportError):
                raise
            reason = str(error) or type(error).__name__
            raise ConfigError(
                f"The {self.noun} {name!r} cannot be used: its module "
                f"{modules[name]} cannot be imported ({reason}). Install again the "
                "package that brings it."
            ) from error

    def is_own(self, module: str) -> bool:
        """Whether a module lies in the folder, and is not of another package."""
        return module.startswith(f"{self.package}.")

    def load_all(self, **required: type[Any]) -> tuple[Any, ...]:
        """Import all modules, by alphabet, once.

        Those of other packages that cannot be imported, or do not offer what is
        required, are left out, and a warning is logged once.

        Parameters
        ----------
        **required
            Type of each attribute that a module must have.

        Raises
        ------
        ConfigError
            If a module of ours cannot be used, or a name is used twice.
        """
        return _usable(entry_points, self, tuple(sorted(required.items())))
