"""One chat call and one responses call.

With AIML_API_KEY or BYTESPIKE_API_KEY set, this talks to the vendor; without a key the built-in simulator answers.
"""

import os

from aimlasync import AsyncClient, run
from aimlasync.simulator import stand_in

MODEL = os.environ.get("MODEL", "openai/gpt-5-nano-2025-08-07")


async def main() -> None:
    async with AsyncClient() as client:
        reply = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Say hello in five languages."}]
        )
        print(reply.choices[0].message.content)
        print(f"{reply.info.attempts} attempt, {reply.info.timing.total:.2f} s, cost {reply.info.cost_usd} USD")

        response = await client.responses.create(model=MODEL, input="Name three uses of a nano model.")
        print(response.output_text)


with stand_in():
    run(main())
