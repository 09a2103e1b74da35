"""llama.cpp's own server, with a model of random weights: `python -m tests.support.llama_cpp MODEL SLOTS CONTEXT N`.

xllamacpp brings the server as a wheel, and gguf writes the model, so that nothing is downloaded but these two. The
model answers nonsense, but as fast as its size lets it. What it is forced to write is sound: JSON by a schema, and
calls of tools, which it begins where `logit_bias` asks it to (`CALL_A_TOOL`).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TO_INSTALL = "pip install xllamacpp gguf"
_WORDS = 253
_BEGINS_CALL = '<tool_call>\n{"name": "'
CALL_A_TOOL = {str(3 + 256 + _WORDS): 100}
"""The `logit_bias` with which the model begins the call of a tool."""

_TEMPLATE = """\
{%- if tools %}<|im_start|>system
You may call these: {% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content or '' }}{%- if message.tool_calls %}{%- for call in message.tool_calls %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{%- endfor %}{%- endif %}<|im_end|>
{% endfor %}{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def is_installed() -> bool:
    """Whether the server and the writer of models can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("xllamacpp", "gguf"))


def write_model(path: Path, *, width: int = 64, layers: int = 2, context: int = 8192) -> None:
    """Write a model of random weights; with the defaults it has 0.6 MB, and writes 10,000 tokens a second."""
    import gguf
    import numpy as np

    draw, model = np.random.default_rng(0), gguf.GGUFWriter(path, "llama")
    kinds = gguf.TokenType
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256]
    tokens += [*(f"\u2581w{number}" for number in range(_WORDS)), _BEGINS_CALL]
    types += [*[kinds.NORMAL] * _WORDS, kinds.USER_DEFINED]
    model.add_context_length(context)
    model.add_embedding_length(width)
    model.add_block_count(layers)
    model.add_feed_forward_length(2 * width)
    model.add_head_count(4)
    model.add_head_count_kv(4)
    model.add_layer_norm_rms_eps(1e-5)
    model.add_rope_dimension_count(width // 4)
    model.add_vocab_size(len(tokens))
    model.add_tokenizer_model("llama")
    model.add_token_list(tokens)
    model.add_token_types(types)
    model.add_token_scores([0.0] * len(tokens))
    model.add_add_space_prefix(False)
    model.add_bos_token_id(1)
    model.add_eos_token_id(2)
    model.add_unk_token_id(0)
    model.add_chat_template(_TEMPLATE)
    shapes = {"token_embd": (len(tokens), width), "output": (len(tokens), width), "output_norm": (width,)}
    for layer in range(layers):
        block = f"blk.{layer}."
        shapes |= dict.fromkeys((f"{block}attn_norm", f"{block}ffn_norm"), (width,))
        shapes |= {f"{block}attn_{part}": (width, width) for part in ("q", "k", "v", "output")}
        shapes |= {f"{block}ffn_gate": (2 * width, width), f"{block}ffn_up": (2 * width, width)}
        shapes[f"{block}ffn_down"] = width, 2 * width
    for name, shape in shapes.items():
        is_norm = len(shape) == 1
        values = np.ones(shape) if is_norm else 0.05 * draw.standard_normal(shape)
        model.add_tensor(f"{name}.weight", values.astype(np.float32))
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


@contextmanager
def serve(
    folder: Path, *, slots: int = 4, context: int = 2048, tokens: int = -1, width: int = 64, layers: int = 2
) -> Iterator[str]:
    """Run a server whose slots have a context of so many tokens each, as a process; yield its URL up to `/v1`.

    `tokens` bounds an answer that is not asked for with a bound. Raises RuntimeError where it does not start.
    """
    path = folder / f"random-{width}-{layers}.gguf"
    write_model(path, width=width, layers=layers)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.llama_cpp", str(path), str(slots), str(context), str(tokens)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().decode().strip()
            if not address:
                raise RuntimeError(f"llama.cpp's server does not start here: it ended with {process.wait()}")
            yield f"{address}/v1"
        finally:
            process.kill()


def main(path: str, slots: str, context: str, tokens: str) -> None:
    """Serve on a free port, say its address, and end with the standard input, that is, with the parent."""
    import xllamacpp

    told = os.dup(1)
    # It logs to its standard output.
    os.dup2(2, 1)
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_parallel = int(slots)
    params.n_ctx = int(slots) * int(context)
    params.n_predict = int(tokens)
    params.port = 0
    params.n_gpu_layers = 0
    params.warmup = False
    # What it keeps of earlier prompts would make its speed a matter of their order.
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = 1
    server = xllamacpp.Server(params)
    os.write(told, f"{server.listening_address}\n".encode())
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
