"""What template.yaml declares, as plain values: the one description that gateway, workers and triggers run from.

`local.template.read_application` builds it with SAM's own template providers, so that what runs on one
machine is what deploys. Nothing here performs I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

ACCOUNT_ID = "000000000000"
REGION = "us-east-1"


def function_arn(name: str) -> str:
    """The ARN a function has on one machine; the name is its logical id in the template."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{name}"


def api_id(name: str) -> str:
    """The id a REST or WebSocket API has on one machine: what `Ref` of it gives and its ARNs contain."""
    return name.lower()


@dataclass(frozen=True)
class AsyncInvokeConfig:
    """How Lambda treats asynchronous invocations of a function (`EventInvokeConfig`)."""

    maximum_retry_attempts: int = 2
    maximum_event_age_seconds: int = 21_600
    on_failure_arn: str | None = None


@dataclass(frozen=True)
class Function:
    """One Lambda function: where its code is and how its execution environments are set up."""

    name: str
    handler: str
    code: Path
    layers: tuple[Path, ...] = ()
    timeout_seconds: float = 3.0
    memory_mb: int = 128
    environment: Mapping[str, str] = field(default_factory=dict)
    reserved_concurrency: int | None = None
    async_invoke: AsyncInvokeConfig = field(default_factory=AsyncInvokeConfig)

    @property
    def arn(self) -> str:
        return function_arn(self.name)


@dataclass(frozen=True)
class Authorizer:
    """A Lambda authorizer. `identity_headers`/`identity_query` are required sources: one missing is a 401."""

    name: str
    function: str
    type: Literal["TOKEN", "REQUEST"]
    identity_headers: tuple[str, ...] = ()
    identity_query: tuple[str, ...] = ()
    ttl_seconds: int = 300
    validation_expression: str | None = None
    """A regular expression that the whole token of a TOKEN authorizer must match before the function is asked."""


@dataclass(frozen=True)
class RestRoute:
    """One method and path of the REST API, as API Gateway spells it (`/v1/events/{event_id}`)."""

    method: str
    path: str
    function: str
    authorizer: str | None = None
    body_model: Mapping[str, Any] | None = None
    """The JSON Schema that a JSON body is checked against before the function is called."""


@dataclass(frozen=True)
class Cors:
    """The API's `Cors` property; header values without the single quotes that API Gateway wants around them."""

    allow_origins: tuple[str, ...]
    allow_methods: tuple[str, ...]
    allow_headers: tuple[str, ...]
    max_age_seconds: int | None = None
    allow_credentials: bool = False
    preflight_authorizer: str | None = None
    """The authorizer of the OPTIONS methods: the default one, unless `AddDefaultAuthorizerToCorsPreflight` is false."""


@dataclass(frozen=True)
class GatewayResponse:
    """How API Gateway words one type of its own answers (`MISSING_AUTHENTICATION_TOKEN`, `DEFAULT_4XX`, …).

    `headers` maps a name to a mapping expression (`'static'` in single quotes, or `context.requestId`);
    `templates` maps a content type to a body with `$context.…` variables. None or empty keeps the default.
    """

    status_code: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RestApi:
    name: str
    stage: str
    routes: tuple[RestRoute, ...]
    authorizers: Mapping[str, Authorizer] = field(default_factory=dict)
    cors: Cors | None = None
    binary_media_types: tuple[str, ...] = ()
    gateway_responses: Mapping[str, GatewayResponse] = field(default_factory=dict)
    stage_variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return api_id(self.name)


@dataclass(frozen=True)
class WebSocketApi:
    """`routes` maps a route key (`$connect`, `join`, `$default`) to its function.

    `two_way_routes` are those with a `RouteResponseSelectionExpression`: what their function returns as
    `body` goes back to the client.
    """

    name: str
    stage: str
    route_selection_expression: str
    routes: Mapping[str, str]
    authorizer: Authorizer | None = None
    two_way_routes: frozenset[str] = frozenset()
    stage_variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return api_id(self.name)


@dataclass(frozen=True)
class KafkaMapping:
    """An MSK event source mapping."""

    name: str
    function: str
    topics: tuple[str, ...]
    consumer_group: str
    batch_size: int = 100
    batching_window_seconds: float = 0.5
    starting_position: Literal["TRIM_HORIZON", "LATEST"] = "TRIM_HORIZON"
    maximum_retry_attempts: int = -1
    bisect_batch_on_error: bool = False
    report_batch_item_failures: bool = False
    on_failure_arn: str | None = None
    enabled: bool = True


@dataclass(frozen=True)
class QueueMapping:
    """An SQS event source mapping."""

    name: str
    function: str
    queue: str
    batch_size: int = 10
    batching_window_seconds: float = 0.0
    report_batch_item_failures: bool = False
    maximum_concurrency: int | None = None
    enabled: bool = True


@dataclass(frozen=True)
class Schedule:
    """A `rate(…)` or `cron(…)` expression that invokes a function asynchronously or starts a state machine."""

    name: str
    expression: str
    function: str | None = None
    state_machine: str | None = None
    input: str | None = None
    enabled: bool = True


@dataclass(frozen=True)
class Queue:
    name: str
    fifo: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    dead_letter_queue: str | None = None
    max_receive_count: int | None = None


@dataclass(frozen=True)
class StateMachine:
    """`definition` is the ASL document with its `DefinitionSubstitutions` applied."""

    name: str
    definition: Mapping[str, Any]
    type: Literal["STANDARD", "EXPRESS"] = "STANDARD"


@dataclass(frozen=True)
class Secret:
    """A secret to create in the control plane; `generate` holds `GenerateSecretString` when it has one."""

    name: str
    value: str | None = None
    generate: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Application:
    """Everything the template declares. Names are logical ids; they are unique across the template."""

    functions: Mapping[str, Function]
    rest_api: RestApi | None = None
    websocket_api: WebSocketApi | None = None
    kafka_mappings: tuple[KafkaMapping, ...] = ()
    queue_mappings: tuple[QueueMapping, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    queues: Mapping[str, Queue] = field(default_factory=dict)
    state_machines: Mapping[str, StateMachine] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    buckets: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    kafka_topics: tuple[str, ...] = ()
