"""The REST API and the WebSocket API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from local.application import Authorizer, Cors, Function, GatewayResponse, RestApi, RestRoute, WebSocketApi
from local.template.functions import function_name
from local.template.intrinsics import TemplateError
from local.template.stack import Resource, Stack

_INTEGRATION = "x-amazon-apigateway-integration"
_GATEWAY_RESPONSES = "x-amazon-apigateway-gateway-responses"
_ANY_METHOD = "x-amazon-apigateway-any-method"
_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", _ANY_METHOD})
_RESPONSE_HEADER = "gatewayresponse.header."
_MOCK_HEADER = "method.response.header."

# Of JSON Schema (draft 4, as API Gateway's), what `local.gateway.validation` checks or may ignore.
_MODEL_KEYWORDS = frozenset({"type", "required", "properties", "title", "description", "$schema"})


def read_rest_api(stack: Stack, functions: Mapping[str, Function]) -> RestApi | None:
    """The template's one REST API, from the OpenAPI document that SAM gives to API Gateway."""
    api = _only(stack, "AWS::ApiGateway::RestApi")
    if api is None:
        return None
    api.refuse("BodyS3Location", because="only an API of SAM events or with an inline body is understood")
    body = api.get("Body", {})
    authorizers = _read_authorizers(api, body, functions)
    routes, preflights = [], []
    for path, operations in body.get("paths", {}).items():
        for method in sorted(_METHODS.intersection(operations)):
            operation = operations[method]
            if operation.get(_INTEGRATION, {}).get("type") == "mock" and method == "options":
                preflights.append(operation)
            else:
                routes.append(_read_route(api, method, path, operation, authorizers, functions, body))
    stage = _only(stack, "AWS::ApiGateway::Stage")
    return RestApi(
        name=api.logical_id,
        stage=str(stage.get("StageName")) if stage else "default",
        routes=tuple(sorted(routes, key=lambda route: (route.path, route.method))),
        authorizers=authorizers,
        cors=_read_cors(api, preflights, authorizers),
        binary_media_types=tuple(body.get("x-amazon-apigateway-binary-media-types", ())),
        gateway_responses=_read_gateway_responses(stack, body),
        stage_variables=(stage.get("Variables") or {}) if stage else {},
    )


def _read_route(
    api: Resource,
    method: str,
    path: str,
    operation: Mapping[str, Any],
    authorizers: Mapping[str, Authorizer],
    functions: Mapping[str, Function],
    document: Mapping[str, Any],
) -> RestRoute:
    method = "ANY" if method == _ANY_METHOD else method.upper()
    place = f"{method} {path}"
    integration = operation.get(_INTEGRATION, {})
    if integration.get("type") != "aws_proxy":
        raise api.error(place, f"must be a Lambda proxy integration, got {integration.get('type')}")
    return RestRoute(
        method=method,
        path=path,
        function=function_name(api, place, functions, integration["uri"]),
        authorizer=_authorizer_of(api, place, operation, authorizers),
        body_model=_body_model(api, place, operation, document),
    )


def _body_model(
    api: Resource, place: str, operation: Mapping[str, Any], document: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    validators = document.get("x-amazon-apigateway-request-validators", {})
    validator = validators.get(operation.get("x-amazon-apigateway-request-validator"), {})
    if validator.get("validateRequestParameters"):
        raise api.error(place, "validates parameters, which is not done on one machine")
    if not validator.get("validateRequestBody"):
        return None
    references = [part["schema"]["$ref"] for part in operation.get("parameters", ()) if part["in"] == "body"]
    if len(references) != 1:
        raise api.error(place, "validates its body and needs a RequestModel for that")
    model: Mapping[str, Any] = document["definitions"][references[0].removeprefix("#/definitions/")]
    if unknown := sorted(_keywords(model) - _MODEL_KEYWORDS):
        raise api.error(
            place,
            f"has a model with {', '.join(unknown)}; understood on one machine: {', '.join(sorted(_MODEL_KEYWORDS))}",
        )
    return model


def _keywords(model: Mapping[str, Any]) -> set[str]:
    return set(model).union(*(_keywords(part) for part in model.get("properties", {}).values()))


def _authorizer_of(
    api: Resource, place: str, operation: Mapping[str, Any], authorizers: Mapping[str, Authorizer]
) -> str | None:
    names = [name for requirement in operation.get("security", []) for name in requirement if name != "NONE"]
    if not names:
        return None
    if len(names) > 1 or names[0] not in authorizers:
        known = ", ".join(authorizers) or "none"
        raise api.error(place, f"wants {' and '.join(names)}, but the API's Lambda authorizers are: {known}")
    return names[0]


def _read_authorizers(
    api: Resource, body: Mapping[str, Any], functions: Mapping[str, Function]
) -> dict[str, Authorizer]:
    schemes = body.get("securityDefinitions") or body.get("components", {}).get("securitySchemes", {})
    authorizers = {}
    for name, scheme in schemes.items():
        config = scheme.get("x-amazon-apigateway-authorizer", {})
        if config.get("type") not in ("token", "request"):
            kind = scheme.get("x-amazon-apigateway-authtype") or scheme.get("type")
            raise api.error(f"Auth.Authorizers.{name}", f"must be a Lambda authorizer, got {kind}")
        token = config["type"] == "token"
        sources = [f"method.request.header.{scheme['name']}"] if token else _split(config.get("identitySource"))
        headers, query = _read_identity(api, f"Auth.Authorizers.{name}", sources, "method")
        authorizers[name] = Authorizer(
            name=name,
            function=function_name(api, f"Auth.Authorizers.{name}", functions, config["authorizerUri"]),
            type="TOKEN" if token else "REQUEST",
            identity_headers=headers,
            identity_query=query,
            ttl_seconds=int(config.get("authorizerResultTtlInSeconds", 300)),
            validation_expression=config.get("identityValidationExpression"),
        )
    return authorizers


def _read_identity(
    api: Resource, place: str, sources: Iterable[str], prefix: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    headers, query = [], []
    for source in sources:
        if source.startswith(f"{prefix}.request.header."):
            headers.append(source.removeprefix(f"{prefix}.request.header."))
        elif source.startswith(f"{prefix}.request.querystring."):
            query.append(source.removeprefix(f"{prefix}.request.querystring."))
        else:
            raise api.error(place, f"an identity source must be a header or a query parameter, got {source}")
    return tuple(headers), tuple(query)


def _split(sources: str | None) -> list[str]:
    return [source.strip() for source in sources.split(",")] if sources else []


def _read_cors(
    api: Resource, preflights: list[Mapping[str, Any]], authorizers: Mapping[str, Authorizer]
) -> Cors | None:
    """The `Cors` property, read back from the OPTIONS methods that SAM makes of it.

    Methods that differ by path were computed by SAM from each path's own; `allow_methods` is empty then.
    """
    if not preflights:
        return None
    answers = [_preflight_headers(operation) for operation in preflights]
    methods = {answer.get("Access-Control-Allow-Methods", "") for answer in answers}
    headers = answers[0]
    max_age = headers.get("Access-Control-Max-Age")
    return Cors(
        allow_origins=tuple(_split(headers.get("Access-Control-Allow-Origin"))),
        allow_methods=tuple(_split(methods.pop())) if len(methods) == 1 else (),
        allow_headers=tuple(_split(headers.get("Access-Control-Allow-Headers"))),
        max_age_seconds=int(max_age) if max_age else None,
        allow_credentials=headers.get("Access-Control-Allow-Credentials") == "true",
        preflight_authorizer=_authorizer_of(api, "OPTIONS", preflights[0], authorizers),
    )


def _preflight_headers(operation: Mapping[str, Any]) -> dict[str, str]:
    parameters = operation[_INTEGRATION]["responses"]["default"]["responseParameters"]
    return {name.removeprefix(_MOCK_HEADER): str(value).strip("'") for name, value in parameters.items()}


def _read_gateway_responses(stack: Stack, body: Mapping[str, Any]) -> dict[str, GatewayResponse]:
    responses = {
        type_: _gateway_response(
            response.get("statusCode"), response.get("responseParameters"), response.get("responseTemplates")
        )
        for type_, response in body.get(_GATEWAY_RESPONSES, {}).items()
    }
    for resource in stack.all_resources():
        if resource.type == "AWS::ApiGateway::GatewayResponse":
            responses[resource.get("ResponseType")] = _gateway_response(
                resource.get("StatusCode"), resource.get("ResponseParameters"), resource.get("ResponseTemplates")
            )
    return responses


def _gateway_response(
    status: object, parameters: Mapping[str, str] | None, templates: Mapping[str, str] | None
) -> GatewayResponse:
    return GatewayResponse(
        status_code=int(str(status)) if status else None,
        headers={
            name.removeprefix(_RESPONSE_HEADER): expression
            for name, expression in (parameters or {}).items()
            if name.startswith(_RESPONSE_HEADER)
        },
        templates=templates or {},
    )


def read_websocket_api(stack: Stack, functions: Mapping[str, Function]) -> WebSocketApi | None:
    """The template's one WebSocket API, from API Gateway V2's resources.

    A route with a `RouteResponseSelectionExpression` answers its caller. Deployed, it needs an
    `AWS::ApiGatewayV2::RouteResponse` beside it.
    """
    api = _only(stack, "AWS::ApiGatewayV2::Api")
    if api is None:
        return None
    if api.get("ProtocolType") != "WEBSOCKET":
        raise api.error("ProtocolType", f"must be WEBSOCKET, got {api.get('ProtocolType')}")
    routes: dict[str, str] = {}
    two_way = set()
    authorizer = None
    for route in _of_type(stack, "AWS::ApiGatewayV2::Route"):
        key = str(route.get("RouteKey"))
        integration = _integration_of(stack, route)
        routes[key] = function_name(integration, "IntegrationUri", functions)
        if selection := route.get("RouteResponseSelectionExpression"):
            if selection != "$default":
                raise route.error("RouteResponseSelectionExpression", f"must be $default, got {selection}")
            two_way.add(key)
        if route.get("AuthorizationType", "NONE") != "NONE":
            authorizer = _read_websocket_authorizer(stack, route, functions)
    stage = _only(stack, "AWS::ApiGatewayV2::Stage")
    return WebSocketApi(
        name=api.logical_id,
        stage=str(stage.get("StageName")) if stage else "default",
        route_selection_expression=str(api.get("RouteSelectionExpression")),
        routes=routes,
        authorizer=authorizer,
        two_way_routes=frozenset(two_way),
        stage_variables=(stage.get("StageVariables") or {}) if stage else {},
    )


def _integration_of(stack: Stack, route: Resource) -> Resource:
    name = str(route.get("Target")).removeprefix("integrations/")
    for integration in _of_type(stack, "AWS::ApiGatewayV2::Integration"):
        if integration.logical_id == name:
            if integration.get("IntegrationType") != "AWS_PROXY":
                raise integration.error("IntegrationType", "must be AWS_PROXY")
            return integration
    raise route.error("Target", f"there is no integration {name}")


def _read_websocket_authorizer(stack: Stack, route: Resource, functions: Mapping[str, Function]) -> Authorizer:
    type_ = route.get("AuthorizationType")
    if type_ != "CUSTOM":
        raise route.error("AuthorizationType", f"must be NONE or CUSTOM on one machine, got {type_}")
    for resource in _of_type(stack, "AWS::ApiGatewayV2::Authorizer"):
        if resource.logical_id == route.get("AuthorizerId"):
            sources = resource.get("IdentitySource", [])
            headers, query = _read_identity(resource, "IdentitySource", sources, "route")
            return Authorizer(
                name=resource.logical_id,
                function=function_name(resource, "AuthorizerUri", functions),
                type="REQUEST",
                identity_headers=headers,
                identity_query=query,
                ttl_seconds=0,  # API Gateway caches no authorizer results for WebSocket APIs
            )
    raise route.error("AuthorizerId", f"there is no authorizer {route.get('AuthorizerId')}")


def _of_type(stack: Stack, type_: str) -> list[Resource]:
    return [resource for resource in stack.all_resources() if resource.type == type_]


def _only(stack: Stack, type_: str) -> Resource | None:
    found = _of_type(stack, type_)
    if len(found) > 1:
        names = ", ".join(resource.logical_id for resource in found)
        raise TemplateError("", f"one machine serves one {type_}, the template has {len(found)}: {names}")
    return found[0] if found else None
