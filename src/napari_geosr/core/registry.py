"""Registries of modules, keyed by file name; listing them does not import them."""

from __future__ import annotations

import logging
import os
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.machine.torch_here import describe_missing_torch
from napari_geosr.core.text.spelling import did_you_mean


@cache
def _third_party_entry_points(
    find: Callable[..., Iterable[EntryPoint]], group: str
) -> list[EntryPoint]:
    """Return third-party entry points; cached because a look-up takes about 10 ms."""
    return list(find(group=group))


@cache
def _usable(
    find: Callable[..., Iterable[EntryPoint]],
    registry: Registry,
    required: tuple[tuple[str, Any], ...],
) -> tuple[Any, ...]:
    """Return all usable modules; `find` is only part of the cache key."""
    usable = []
    for name, path in registry.modules().items():
        try:
            module = registry.load(name)
            _check(registry, name, module, required)
        except ConfigError as error:
            if registry.is_own(path):
                raise
            # A faulty module of another package must not block the others.
            logging.getLogger(__name__).warning("%s", error)
        else:
            usable.append(module)
    return tuple(usable)


def _check(
    registry: Registry, name: str, module: Any, required: tuple[tuple[str, Any], ...]
) -> None:
    """Raise `ConfigError` if a module lacks a required attribute."""
    for attribute, kind in required:
        if not isinstance(getattr(module, attribute, None), kind):
            fault = "an invalid" if hasattr(module, attribute) else "no"
            raise ConfigError(
                f"The {registry.noun} {name!r} cannot be used: its module "
                f"{module.__name__} has {fault} {attribute}. Update or uninstall the "
                "package that provides it."
            )


def _with_time(folder: str) -> tuple[str, int]:
    """Return a folder and the time of its last change."""
    try:
        return folder, os.stat(folder).st_mtime_ns
    except OSError:  # the package is in an archive
        return folder, 0


@lru_cache(maxsize=64)
def _names_in(folders: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """Return the names of the modules; cached, because docks load dozens of them."""
    return tuple(info.name for info in pkgutil.iter_modules([f for f, _ in folders]))


@dataclass(frozen=True)
class Registry:
    """Modules of one package, plus those that third parties add through entry points.

    Parameters
    ----------
    package : str
        Dotted name of the package, e.g. ``"napari_geosr.networks"``.
    group : str
        Entry-point group for third parties; each entry point names a module.
    noun : str
        Word for an entry in messages.
    not_entries : frozenset of str
        Module names in the folder that are not entries.
    """

    package: str
    group: str
    noun: str
    not_entries: frozenset[str] = frozenset()

    @property
    def plural(self) -> str:
        """Plural of the noun; "kind of degradation" becomes "kinds of degradation"."""
        head, of, rest = self.noun.partition(" of ")
        return f"{head}{'es' if head.endswith('s') else 's'}{of}{rest}"

    def modules(self) -> dict[str, str]:
        """Return the module names by key; raises `ConfigError` on a duplicate key."""
        spec = find_spec(self.package)
        locations = (spec and spec.submodule_search_locations) or ()
        modules = {
            name: f"{self.package}.{name}"
            for name in _names_in(tuple(map(_with_time, locations)))
            if not name.startswith("_") and name not in self.not_entries
        }
        for point in _third_party_entry_points(entry_points, self.group):
            if modules.get(point.name, point.module) != point.module:
                raise ConfigError(
                    f"Two {self.plural} are called {point.name!r}: "
                    f"{modules[point.name]} and {point.module}. Uninstall one of the "
                    "two packages."
                )
            modules[point.name] = point.module
        return dict(sorted(modules.items()))

    def names(self) -> list[str]:
        """Return the names of everything registered, in alphabetical order."""
        return list(self.modules())

    def key(self, name: str) -> str:
        """Return the key for `name`, in which hyphens may replace underscores.

        An unknown name is returned unchanged.
        """
        known = self.modules()
        if name in known:
            return name
        alike = [
            key for key in known if key.replace("-", "_") == name.replace("-", "_")
        ]
        return alike[0] if len(alike) == 1 else name

    def load(self, name: str) -> Any:
        """Import and return the module registered as `name` (see `key`).

        Raises
        ------
        ConfigError
            If there is no such module, or it cannot be imported.
        """
        modules, name = self.modules(), self.key(name)
        if name not in modules:
            raise ConfigError(
                f"There is no {self.noun} {name!r}.{did_you_mean(name, modules)} "
                f"Known: {', '.join(modules)}."
            )
        try:
            return import_module(modules[name])
        except Exception as error:
            if self.is_own(modules[name]) and not isinstance(error, ImportError):
                raise
            if self.is_own(modules[name]) and (
                missing := describe_missing_torch(error)
            ):
                raise ConfigError(missing) from error
            reason = str(error) or type(error).__name__
            raise ConfigError(
                f"The {self.noun} {name!r} cannot be used: its module "
                f"{modules[name]} cannot be imported ({reason}). Reinstall the package "
                "that provides it."
            ) from error

    def is_own(self, module: str) -> bool:
        """Whether a module belongs to this package rather than to a third party."""
        return module.startswith(f"{self.package}.")

    def load_all(self, **required: type[Any]) -> tuple[Any, ...]:
        """Import all modules once, in alphabetical order.

        Modules of other packages that cannot be imported or lack a required attribute
        are skipped, and a warning is logged once.

        Parameters
        ----------
        **required
            Required attributes of a module and their types.

        Raises
        ------
        ConfigError
            If a module of napari-geosr is unusable, or a name is used twice.
        """
        return _usable(entry_points, self, tuple(sorted(required.items())))
