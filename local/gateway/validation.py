"""Request validation: what API Gateway checks of a JSON body against a route's model before it calls the function.

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-method-request-validation.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from local.gateway.errors import BAD_REQUEST_BODY, GatewayError

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def check_body(model: Mapping[str, Any], content_type: str, body: bytes) -> None:
    """Raises GatewayError (BAD_REQUEST_BODY). A body of another type than JSON passes: no model is for it.

    `model` is JSON Schema with the keywords that `local.template.apis` lets through.
    """
    if content_type.partition(";")[0].strip().lower() not in ("", "application/json"):
        return
    try:
        content = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        raise GatewayError(BAD_REQUEST_BODY, validation="the body is not JSON") from None
    if broken := list(_broken_rules(model, content)):
        raise GatewayError(BAD_REQUEST_BODY, validation=f"[{', '.join(broken)}]")


def _broken_rules(model: Mapping[str, Any], content: Any) -> Iterator[str]:
    """Worded as API Gateway's validator does (com.github.java-json-tools)."""
    allowed = [model["type"]] if isinstance(model.get("type"), str) else list(model.get("type", _TYPES))
    found = _type_of(content)
    if found not in allowed and not (found == "integer" and "number" in allowed):
        named = ",".join(f'"{name}"' for name in sorted(allowed))
        yield f"instance type ({found}) does not match any allowed primitive type (allowed: [{named}])"
    elif isinstance(content, dict):
        if missing := sorted(set(model.get("required", ())) - content.keys()):
            named = ",".join(f'"{name}"' for name in missing)
            yield f"object has missing required properties ([{named}])"
        for name, part in model.get("properties", {}).items():
            if name in content:
                yield from _broken_rules(part, content[name])


def _type_of(content: Any) -> str:
    if isinstance(content, bool):  # to Python, also an integer
        return "boolean"
    return next(name for name, types in _TYPES.items() if isinstance(content, types))
