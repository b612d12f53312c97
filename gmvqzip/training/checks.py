"""Checks of the fields of a configuration, in which a file can put anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from gmvqzip.errors import TrainingError, range_fault

_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "a text"),
}


def check_types(settings: Any, prefix: str = "") -> None:
    """Raise TrainingError for a field that does not hold what it is declared as."""
    for item in fields(settings):
        value, declared = getattr(settings, item.name), str(item.type)
        kind = declared.removesuffix(" | None")
        if kind not in _KINDS or (value is None and kind != declared):
            continue
        types, words = _KINDS[kind]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise TrainingError(f"{prefix}{item.name} must be {words}, not {value!r}")


def check_ranges(settings: Any, positive: Collection[str], fractions: Collection[str], prefix: str = "") -> None:
    """Raise TrainingError for numbers that are not finite, negative, zero where named in `positive`, or above 1."""
    if fault := range_fault(settings, positive, fractions):
        raise TrainingError(prefix + fault)


def check_choices(settings: Any, choices: Mapping[str, Collection[str]]) -> None:
    """Raise TrainingError for a text that is none of the field's."""
    for name, allowed in choices.items():
        value = getattr(settings, name)
        if value not in allowed:
            raise TrainingError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
