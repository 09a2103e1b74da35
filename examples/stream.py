"""A streamed answer, printed as it arrives, and the whole of it afterwards.

With AIML_API_KEY or BYTESPIKE_API_KEY set, this talks to the vendor; without a key the built-in simulator answers.
"""

import os

from aimlasync import AsyncClient, TruncatedStreamError, run
from aimlasync.simulator import stand_in

MODEL = os.environ.get("MODEL", "openai/gpt-5-nano-2025-08-07")


async def main() -> None:
    async with AsyncClient() as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Tell a story about a token bucket."}], stream=True
        )
        async with stream:
            try:
                async for text in stream.text:
                    print(text, end="", flush=True)
            except TruncatedStreamError as cut:
                print(f"\n[cut after {len(cut.partial.text)} characters]")
                return
        whole = await stream.collect()
        tokens = whole.usage.total_tokens if whole.usage is not None else "unknown"
        print(f"\n[{whole.choices[0].finish_reason}, {tokens} tokens, {whole.info.cost_usd} USD]")


with stand_in():
    run(main())
