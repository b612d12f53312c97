"""Options in groups: a command takes one parameter for each group, and Typer sees one for each option."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


def grouped(command: Callable[..., Result]) -> Callable[..., Result]:
    """The command with each parameter of a dataclass's type replaced by the fields of that dataclass.

    A field is annotated as a parameter would be, and has a default.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if dataclasses.is_dataclass(hints[name]):
            groups[name] = hints[name]
            kinds = typing.get_type_hints(hints[name], include_extras=True)
            for field in dataclasses.fields(hints[name]):
                parameters.append(_parameter(field.name, field.default, kinds[field.name]))
        else:
            parameters.append(_parameter(name, parameter.default, hints[name]))

    @functools.wraps(command)
    def run(**values: Any) -> Result:
        given = {}
        for name, group in groups.items():
            given[name] = group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
        return command(**values, **given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
