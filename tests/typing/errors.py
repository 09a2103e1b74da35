"""Options of a client, and what is caught."""

from typing import reveal_type

from aimlasync import (
    AnswerError,
    APIStatusError,
    AsyncClient,
    Endpoint,
    Limits,
    RateLimitError,
    Retry,
    Timeout,
    TruncatedStreamError,
)


async def main() -> str:
    endpoints = [Endpoint.aimlapi(api_key="k", limits=Limits(concurrency=4)), Endpoint.bytespike(api_key="k")]
    client = AsyncClient(endpoints=endpoints, retry=Retry(attempts=2), timeout=Timeout(total=30, first_token=5))
    async with client:
        try:
            reply = await client.with_options(timeout=5).chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "Hello"}],
                temperature=0,
                extra_body={"top_k": 3},
                extra_headers={"X-A": "b"},
            )
            return reply.text
        except RateLimitError as error:
            reveal_type(error.retry_after)  # float | None
        except APIStatusError as error:
            reveal_type(error.status)  # int
        except (TruncatedStreamError, AnswerError) as error:
            print(error)
    return ""
