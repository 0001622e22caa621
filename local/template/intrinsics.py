"""CloudFormation's intrinsic functions and conditions, resolved to plain values.

SAM CLI has a resolver too, but it (1.170) takes the variables of `Fn::Sub`'s list form for logical ids,
leaves `Fn::If` with `AWS::NoValue` alone, ignores conditions, and invents a Lambda ARN for what it does
not know. Here whatever has no value is an error that names the place.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

_SUB_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NO_VALUE = object()


class TemplateError(ValueError):
    """The template says something that cannot be run as it stands; `place` is `LogicalId.Property.…`."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.place = place


class Resolver:
    """Resolves values of one template.

    `reference(logical_id, attribute)` gives what `Ref` (attribute "Ref") and `Fn::GetAtt` stand for and
    raises LookupError, saying why, when there is no such value.
    """

    def __init__(self, template: Mapping[str, Any], reference: Callable[[str, str], object]) -> None:
        self._conditions: Mapping[str, Any] = template.get("Conditions") or {}
        self._mappings: Mapping[str, Any] = template.get("Mappings") or {}
        self._reference = reference
        self._functions: dict[str, Callable[[Any, str], object]] = {
            "Ref": self._ref,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": self._join,
            "Fn::Split": self._split,
            "Fn::Select": self._select,
            "Fn::If": self._if,
            "Fn::FindInMap": self._find_in_map,
            "Fn::Base64": self._base64,
        }

    def resolve(self, value: Any, place: str) -> Any:
        """`value` with every intrinsic function applied and `AWS::NoValue` entries removed (None at the top)."""
        resolved = self._resolve(value, place)
        return None if resolved is _NO_VALUE else resolved

    def holds(self, condition: str, place: str) -> bool:
        """Whether a condition of the template is true."""
        if condition not in self._conditions:
            raise TemplateError(place, f"there is no condition {condition}")
        return self._holds(self._conditions[condition], f"Conditions.{condition}")

    def _resolve(self, value: Any, place: str) -> Any:
        if isinstance(value, dict):
            if len(value) == 1:
                (key,) = value
                if key in self._functions:
                    return self._functions[key](value[key], place)
                if isinstance(key, str) and key.startswith("Fn::"):
                    raise TemplateError(place, f"{key} is not supported; supported are {', '.join(self._functions)}")
            resolved = {key: self._resolve(item, f"{place}.{key}") for key, item in value.items()}
            return {key: item for key, item in resolved.items() if item is not _NO_VALUE}
        if isinstance(value, list):
            items = [self._resolve(item, f"{place}[{index}]") for index, item in enumerate(value)]
            return [item for item in items if item is not _NO_VALUE]
        return str(value) if isinstance(value, str) else value  # the translator has a str class of its own

    def _look_up(self, logical_id: str, attribute: str, place: str) -> object:
        try:
            return self._reference(logical_id, attribute)
        except LookupError as error:
            raise TemplateError(place, str(error.args[0])) from None

    def _ref(self, logical_id: Any, place: str) -> object:
        return _NO_VALUE if logical_id == "AWS::NoValue" else self._look_up(str(logical_id), "Ref", place)

    def _get_att(self, argument: Any, place: str) -> object:
        logical_id, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
        return self._look_up(logical_id, str(self._resolve(attribute, place)), place)

    def _sub(self, argument: Any, place: str) -> str:
        text, variables = (argument, {}) if isinstance(argument, str) else argument
        variables = self._resolve(variables, place)

        def substitute(match: re.Match[str]) -> str:
            name = match[1].strip()
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in variables:
                return scalar(variables[name], place)
            logical_id, _, attribute = name.partition(".")
            return scalar(self._look_up(logical_id, attribute or "Ref", place), place)

        return _SUB_VARIABLE.sub(substitute, text)

    def _join(self, argument: Any, place: str) -> str:
        delimiter, values = argument
        return str(delimiter).join(scalar(value, place) for value in self._resolve(values, place))

    def _split(self, argument: Any, place: str) -> list[str]:
        delimiter, text = argument
        return scalar(self._resolve(text, place), place).split(delimiter)

    def _select(self, argument: Any, place: str) -> object:
        index, values = argument
        index, values = int(self._resolve(index, place)), self._resolve(values, place)
        if not 0 <= index < len(values):
            raise TemplateError(place, f"Fn::Select wants item {index} of {len(values)}")
        return values[index]

    def _if(self, argument: Any, place: str) -> object:
        condition, when_true, when_false = argument
        return self._resolve(when_true if self.holds(condition, place) else when_false, place)

    def _find_in_map(self, argument: Any, place: str) -> object:
        keys = [str(self._resolve(key, place)) for key in argument]
        value: Any = self._mappings
        for key in keys:
            if key not in value:
                raise TemplateError(place, f"Fn::FindInMap finds no {' / '.join(keys)}")
            value = value[key]
        return value

    def _base64(self, argument: Any, place: str) -> str:
        return base64.b64encode(scalar(self._resolve(argument, place), place).encode()).decode()

    def _holds(self, condition: Any, place: str) -> bool:
        (function, argument), *rest = condition.items()
        if rest:
            raise TemplateError(place, "a condition is one function")
        if function == "Condition":
            return self.holds(argument, place)
        if function == "Fn::Equals":
            left, right = (scalar(self._resolve(side, place), place) for side in argument)
            return left == right
        if function in ("Fn::And", "Fn::Or", "Fn::Not"):
            parts = [self._holds(part, place) for part in argument]
            return {"Fn::And": all(parts), "Fn::Or": any(parts), "Fn::Not": not parts[0]}[function]
        raise TemplateError(place, f"{function} is not a condition function")


def scalar(value: object, place: str) -> str:
    """A string, number or boolean as CloudFormation writes it in a string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise TemplateError(place, f"expected a string, got {value!r}")
