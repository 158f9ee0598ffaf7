"""The REST API on the network: issuances that are asked for at the same moment share their commits; FastAPI describes it all (OpenAPI 3.1, /openapi.json).

In the service the door in `hot.py` hands `/v1/` straight to a `Clerk`, and FastAPI, which is loaded at the first question, answers for its description only.
`application` is also complete by itself, for tests and for those who bring a server of their own.
"""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from ..errors import GatekeyError, Unavailable
from ..model.access import Caller
from ..protocols.api import answers, certificates, table
from ..protocols.api.gate import Gate, Prepared, as_problem
from ..protocols.api.shapes import Field, Shape
from ..protocols.message import Answer, Call, Peer
from .keymaking import Keymaker, ending

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import BaseModel

    from ..protocols.api.asking import Route

#: Issuances in one commit, and those that wait for the next ones.
MOST_TOGETHER, MOST_WAITING = 64, 1024
#: Seconds that a batch waits for those who are expected.
MOMENT = 0.001
#: Seconds after which who still waits is sent away when the process is told to end: a little before everything is cut off (`server.GRACE`).
PATIENCE = 25.0
_LISTENER = "private"


class Clerk:
    """Answers calls in threads. Who is alone does not wait; while one batch is being written, the next one gathers.

    One batch at a time: two threads would hand each other the interpreter in the middle of a transaction, for which every other process then waits. Always in
    the same thread, too: each has a connection of its own, with the pages that it has read.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._hand = ThreadPoolExecutor(1, "issuing")
        self._keys = Keymaker()
        self._waiting: list[tuple[Call | Prepared, asyncio.Future[Answer]]] = []
        self._preparing = 0
        self._expected = 0
        self._enough = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    def caller(self, call: Call) -> Caller:
        """Who asks. Raises Refused, Malformed, Unavailable."""
        return self._gate.caller(call)

    def answer(self, call: Call) -> asyncio.Future[Answer]:
        """The answer to one call, when it is there; an exception only for a fault of our own."""
        loop = asyncio.get_running_loop()
        route = table.find(call.method, call.path)[0]
        if route is None or not route.issues:
            return loop.run_in_executor(None, self._gate.answer, call)
        if len(self._waiting) + self._preparing >= MOST_WAITING:
            busy: asyncio.Future[Answer] = loop.create_future()
            refused = Unavailable("too-many-requests", "too many certificates are being asked for", hint="ask again in a moment")
            busy.set_result(_unwritten(refused, call))
            return busy
        # Whoever brings a request brings a key. Wherever one may be made here, that is done before the batch: the others must not wait for it.
        return self._join(call) if route.name == "signCsr" else loop.create_task(self._prepared(call))

    def leave(self) -> None:
        """We are to end. Who still waits in a while is sent away in words: what is cut off gets none. Called in the event loop."""
        asyncio.get_running_loop().call_later(PATIENCE, self._send_away)

    def _send_away(self) -> None:
        self._keys.send_away()
        for one, future in self._waiting:
            if not future.done():
                future.set_result(_unwritten(ending(), one.call if isinstance(one, Prepared) else one))

    def end(self) -> None:
        """Waits until the batch that is being written is written, also when nobody waits for its answers any more: after this the ledger is closed."""
        self._keys.end()
        self._hand.shutdown()

    async def _prepared(self, call: Call) -> Answer:
        self._preparing += 1
        try:
            one = await asyncio.to_thread(self._at_once, call)
            if isinstance(one.result, Answer) and one.result.status == certificates.LATER:
                # From the beginning, when it is its turn: who may do what is asked again then.
                one = await self._keys.make(one.result.body.decode(), functools.partial(self._gate.prepare, call))
        except Unavailable as not_now:
            return _unwritten(not_now, call)
        finally:
            self._preparing -= 1
        return one.result if isinstance(one.result, Answer) else await self._join(one)

    def _at_once(self, call: Call) -> Prepared:
        """A question up to its certificate, unless a key has to be made for it that takes a while."""
        token = certificates.SLOWLY.set(False)
        try:
            return self._gate.prepare(call)
        finally:
            certificates.SLOWLY.reset(token)

    def _join(self, one: Call | Prepared) -> asyncio.Future[Answer]:
        """Becomes one of the next batch."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, future))
        if len(self._waiting) >= self._expected:
            self._enough.set()
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return future

    async def _work(self) -> None:
        """Takes batches until nothing waits. Between the last look and the end nothing is awaited: whoever comes after starts another."""
        try:
            while self._waiting:
                await self._gather()
                batch, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
                if batch := [one for one in batch if not one[1].done()]:  # who was sent away meanwhile gets nothing that he never hears of
                    await self._batch(batch)
        finally:
            self._working = None

    async def _gather(self) -> None:
        """Waits a moment until as many are there as were answered or waiting at the end of the last batch: those have their next question under way."""
        if len(self._waiting) < self._expected:
            self._enough.clear()
            timer = asyncio.get_running_loop().call_later(MOMENT, self._enough.set)
            await self._enough.wait()
            timer.cancel()

    async def _batch(self, batch: list[tuple[Call | Prepared, asyncio.Future[Answer]]]) -> None:
        try:
            done = await asyncio.get_running_loop().run_in_executor(self._hand, self._gate.answer_many, [one for one, _ in batch])
        except Exception as fault:  # noqa: BLE001  whoever asked hears of it, and what waits behind must still be answered
            for _, future in batch:
                if not future.done():
                    future.set_exception(fault)
            return
        for (_, future), answer in zip(batch, done, strict=True):
            if not future.done():  # whoever asked may have gone
                future.set_result(answer)
        self._expected = min(len(batch) + len(self._waiting), MOST_TOGETHER)


def _unwritten(refused: GatekeyError, call: Call) -> Answer:
    """A refusal that floods are told, and of which the log has no line."""
    return as_problem(refused, call._replace(id=""))


class Described:
    """An ASGI application that is built at its first request: few ask for the description, and FastAPI costs half a second and 30 MB."""

    def __init__(self, clerk: Clerk) -> None:
        self._clerk = clerk
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            self._app = await asyncio.to_thread(application, self._clerk)
        await self._app(scope, receive, send)


def application(clerk: Clerk) -> FastAPI:
    """The API as a FastAPI application. Who is there stands in `scope["state"]["peer"]`, the id of the request in `["request_id"]`."""
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response

    async def endpoint(request: Request) -> Response:
        call = _call(request, await request.body())
        answer = await clerk.answer(call)
        return Response(answer.body, answer.status, dict(answer.headers))

    endpoint.__annotations__ = {"request": Request, "return": Response}  # FastAPI reads them, and these names are known in here only

    async def nothing(request: Request, error: Exception) -> Response:  # noqa: ARG001  Starlette's form
        return await endpoint(request)

    app = FastAPI(title="Gatekey", version="1", docs_url=None, redoc_url=None, default_response_class=JSONResponse, description=_ABOUT, redirect_slashes=False)
    app.add_exception_handler(HTTPException, nothing)  # the gate has the words for what is not there
    for route in table.ROUTES:
        content: dict[str, Any] = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        responses: dict[int | str, dict[str, Any]] = {"default": {"description": "A refusal", "content": content}}
        if route.answer is None:
            responses[route.status] = {"description": "The file", "content": {route.media: {"schema": {"type": "string", "format": "binary"}}}}
            responses[304] = {"description": "The asker has it already"}
        app.add_api_route(
            route.path,
            endpoint,
            methods=[route.method],
            operation_id=route.name,
            summary=route.about,
            description=_needs(route.scopes),
            status_code=route.status,
            response_model=model(route.answer, answer=True) if route.answer else None,
            response_class=JSONResponse if route.answer else Response,
            responses=responses,
            openapi_extra=_extra(route),
        )
    app.openapi = functools.partial(_openapi, app)  # type: ignore[method-assign]  # FastAPI's own way of adding to it
    return app


_ABOUT = (
    "Sign in with a client certificate whose holder has a role, or with `Authorization: Bearer TOKEN`. Refusals are problem details (RFC 9457); "
    "`code` is one of docs/reference/errors.md. What changes something may carry `Idempotency-Key`: asking again within 7 days gives the first answer, "
    "without secrets. Where nothing is changed the header is not looked at."
)


def _needs(scopes: tuple[str, ...]) -> str:
    return f"Needs the scope {' or '.join(scopes)}." if scopes else "For everybody who has signed in."


def _call(request: Any, body: bytes) -> Call:
    scope = request.scope
    state = scope.get("state", {})
    client = scope.get("client")
    peer = state.get("peer") or Peer(client[0] if client else "unix")
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return Call(_LISTENER, scope["method"], scope["path"], scope["query_string"].decode("latin-1"), headers, body, peer, state.get("request_id", ""))


def _extra(route: Route) -> dict[str, Any]:
    parameters = [_parameter("path", Field(name, "text", about, True, most=300, least=1)) for name, about in _WORDS.items() if f"{{{name}}}" in route.path]
    parameters += [_parameter("query", field) for field in (route.query.fields if route.query else ())]
    if route.writes:
        parameters.append(_parameter("header", Field("Idempotency-Key", "text", "asking again with it does nothing twice", most=255, least=1)))
    extra: dict[str, Any] = {"parameters": parameters, "security": [{"certificate": []}, {"token": []}]}
    if route.body is not None:
        needed = any(field.required for field in route.body.fields)
        schema = model(route.body, answer=False).model_json_schema()
        extra["requestBody"] = {"required": needed, "content": {"application/json": {"schema": schema}}}
    return extra


#: The words in paths.
_WORDS = {
    "ref": "serial, fingerprint, login or e-mail",
    "login": "login or e-mail",
    "id": "short name of a token, or all of it",
    "name": "short name",
    "file": "name of a file of the bundle",
}


def _parameter(where: str, field: Field) -> dict[str, Any]:
    schema = model(Shape("Parameter", (field._replace(name="value"),)), answer=False).model_json_schema()["properties"]["value"]
    schema = {key: value for key, value in schema.items() if key not in ("title", "description", "default")}
    return {"name": field.name, "in": where, "required": field.required, "description": field.about, "schema": schema}


@functools.cache
def model(shape: Shape, *, answer: bool) -> type[BaseModel]:
    """A shape as pydantic knows it. Used for the description; what comes in is checked by `shapes`, against the same words."""
    import pydantic

    fields: dict[str, Any] = {}
    for field in shape.fields:
        kind = _type(field, answer=answer)
        limits = {} if answer else _limits(field)
        name = f"{field.name}_" if field.name in ("for", "from") else field.name
        optional = field.nullable or (answer and not field.required)
        default: Any = ... if field.required else None
        alias = field.name if name != field.name else None
        fields[name] = (kind | None if optional else kind, pydantic.Field(default, description=field.about, alias=alias, **limits))
    return pydantic.create_model(shape.name, __config__=pydantic.ConfigDict(extra="forbid"), **fields)


def _type(field: Field, *, answer: bool) -> Any:
    word: Any = Literal[field.choices] if field.choices and not (answer and field.kind == "texts") else str
    if field.kind == "texts":
        return list[word]
    if field.kind == "number":
        return int
    if field.kind in ("numbers", "decimal"):
        return list[int] if field.kind == "numbers" else float
    if field.kind == "flag":
        return bool
    if field.kind == "map":
        return dict[str, Any]
    if field.shape is not None:
        inner = model(field.shape, answer=answer)
        return inner if field.kind == "object" else list[inner]  # type: ignore[valid-type]  # made at run time
    return word


def _limits(field: Field) -> dict[str, Any]:
    if field.kind == "number":
        return {"ge": field.least, "le": field.most}
    if field.kind == "texts":
        return {"min_length": field.least, "max_length": 100}
    if field.kind in ("text", "lines", "instant") and not field.choices:
        return {"min_length": field.least, "max_length": field.most}
    return {}


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's description with what it cannot know: problem details and the two ways of signing in."""
    if app.openapi_schema is None:
        from fastapi.openapi.utils import get_openapi

        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes, openapi_version="3.1.0")
        components = made.setdefault("components", {})
        schema = model(answers.PROBLEM, answer=True).model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = components.setdefault("schemas", {})
        schemas.update(schema.pop("$defs", {}))
        schemas["Problem"] = schema
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        components["securitySchemes"] = {
            "certificate": {"type": "mutualTLS", "description": "a client certificate whose holder has a role"},
            "token": {"type": "http", "scheme": "bearer", "description": "gatekey token add LOGIN --scope S"},
        }
        app.openapi_schema = made
    return app.openapi_schema
