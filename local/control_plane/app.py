"""The ASGI application that `AWS_ENDPOINT_URL` points to."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from local.application import Function
from local.control_plane.lambda_api import LambdaApi
from local.control_plane.proxy import Proxy
from local.control_plane.ses_api import SesApi
from local.mailbox import Mailbox
from local.triggers import AsyncInvocations
from local.triggers.invoking import Invoker

FUNCTIONS = "/2015-03-31/functions"
MAILS = "/v2/email/outbound-emails"


class ControlPlane:
    """Serve it with any ASGI server; `close` gives back its connections to moto.

    moto's executor of state machines calls `http://localhost:$MOTO_PORT`. With that being this application's port,
    task states run the platform's functions.
    """

    def __init__(
        self,
        functions: Mapping[str, Function],
        invoker: Invoker,
        asynchronous: AsyncInvocations,
        *,
        mailbox: Mailbox,
        upstream: str,
    ) -> None:
        """`mailbox` gets the mails that are sent; `upstream` is moto's own URL."""
        self._lambda = LambdaApi(functions, invoker, asynchronous)
        self._proxy = Proxy(upstream)
        self._app = Starlette(
            routes=[
                Route(f"{FUNCTIONS}/{{name}}/invocations", self._lambda.invoke, methods=["POST"]),
                Route(f"{FUNCTIONS}/{{name}}", self._lambda.get_function, methods=["GET"]),
                Route(FUNCTIONS, self._lambda.list_functions, methods=["GET"]),
                Route(MAILS, SesApi(mailbox).send_email, methods=["POST"]),
                Mount("/", self._proxy),
            ]
        )
        self._app.router.redirect_slashes = False  # a slash at the end means something to S3

    def update(self, functions: Mapping[str, Function]) -> None:
        """Take over a changed template."""
        self._lambda.functions = functions

    async def close(self) -> None:
        await self._proxy.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
