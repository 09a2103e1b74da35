"""An OpenAI-compatible endpoint of one's own before the vendors: shared limits, failover, tenants with a budget each.

    GATEWAY_TENANTS='{"key-of-team-a": 5.0, "key-of-team-b": 0.5}' python examples/gateway.py

Any client in any language uses it with base_url http://127.0.0.1:8000/v1 and a tenant's key; budgets are in US dollars.
Bodies and answers pass as they are. The vendors' keys are those of AIML_API_KEY and
BYTESPIKE_API_KEY; without one the built-in simulator answers.
"""

import json
import os
from functools import partial
from hashlib import sha256

from aiohttp import web

from aimlasync import AimlasyncError, AsyncClient, Budget, BudgetExceededError, Endpoint
from aimlasync.aiohttp_web import client_of, setup
from aimlasync.relay import Failure, failed, failure
from aimlasync.simulator import stand_in

try:
    TENANTS = {
        sha256(key.encode()).digest(): (f"tenant-{number}", Budget(float(usd)))
        for number, (key, usd) in enumerate(json.loads(os.environ.get("GATEWAY_TENANTS", '{"test": 1.0}')).items(), 1)
    }
except (ValueError, TypeError, AttributeError):
    raise SystemExit('GATEWAY_TENANTS: a JSON object of keys and US dollars is expected: {"a-key": 5.0}') from None
# Nothing else is served: other paths cost what no budget sees, or show what other tenants have stored.
SERVED = {("POST", "chat/completions"), ("POST", "responses"), ("GET", "models")}
VENDORS = {"AIML_API_KEY": Endpoint.aimlapi, "BYTESPIKE_API_KEY": Endpoint.bytespike}


async def handle(request: web.Request) -> web.StreamResponse:
    key = request.headers.get("Authorization", "").partition(" ")[2]
    tenant, budget = TENANTS.get(sha256(key.encode()).digest(), (None, None))
    if tenant is None or budget is None:
        return refusal(failed(401, "invalid_api_key", "the gateway does not know this key"))
    if (asked := (request.method, request.match_info["path"])) not in SERVED:
        return refusal(failed(404, "not_served", f"the gateway does not serve {' '.join(asked)}"))
    try:
        answer = await client_of(request).forward(
            *asked,
            await request.read() or None,
            query=request.query_string,
            extra_headers={"Content-Type": request.headers.get("Content-Type", "application/json")},
            tenant=tenant,
            budget=budget,
        )
    except BudgetExceededError:
        return refusal(failed(402, "budget_exceeded", f"{tenant} has spent its budget"))
    except AimlasyncError as error:
        return refusal(failure(error))
    if answer.body is not None:
        return web.Response(body=answer.body, status=answer.status, headers=answer.end_to_end_headers)
    response = web.StreamResponse(status=answer.status, headers=answer.end_to_end_headers)
    try:
        await response.prepare(request)
        async for piece in answer:
            await response.write(piece)
        await response.write_eof()
    except AimlasyncError as error:
        failure(error)  # for the log; the answer was cut, and must look cut to its reader
        if request.transport is not None:
            request.transport.abort()
    finally:
        await answer.close()
    return response


def refusal(said: Failure) -> web.Response:
    return web.Response(body=said.body, status=said.status, headers=said.headers, content_type="application/json")


def client() -> AsyncClient:
    endpoints = [make() for variable, make in VENDORS.items() if os.environ.get(variable)]
    return AsyncClient(endpoints=endpoints or None, max_queue_per_tenant=100, max_wait=30.0)


if __name__ == "__main__":
    app = web.Application(client_max_size=64 * 2**20)
    setup(app, client)
    app.router.add_route("*", "/v1/{path:.+}", handle)
    # With handler_cancellation, a client that hangs up cancels its call.
    port = int(os.environ.get("PORT", "8000"))
    with stand_in():
        try:
            # Flushed, so that what starts it reads at once that it runs.
            said = partial(print, flush=True)
            web.run_app(app, host="127.0.0.1", port=port, handler_cancellation=True, print=said)
        except OSError as error:
            raise SystemExit(f"port {port}: {error.strerror}; set PORT to another") from None
