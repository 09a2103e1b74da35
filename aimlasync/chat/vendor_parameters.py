"""Parameters of /chat/completions that vendors document beyond OpenAI's, as they name them.

A typed dict and nothing else; it imports nothing of this library. Sources: the OpenAPI specs of the AI/ML API for its
models of other developers (2026-08), ByteSpike's model pages, and the developers' own pages: Alibaba, "Deep thinking";
Anthropic, "Messages"; DeepSeek, "Thinking mode"; Perplexity, "Chat completions"; vLLM, "OpenAI-compatible server".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict


class VendorParameters(TypedDict, total=False):
    """Models differ in which of them they take, and in the values."""

    # Thinking
    chat_template_kwargs: Mapping[str, Any] | None
    enable_thinking: bool | None
    include_reasoning: bool | None
    reasoning: Mapping[str, Any] | None
    thinking: Mapping[str, Any] | bool | None
    thinking_budget: int | None
    # Sampling
    echo: bool | None
    min_p: float | None
    repetition_penalty: float | None
    top_a: float | None
    top_k: int | None
    # Search
    enable_search: bool | None
    last_updated_after_filter: str | None
    last_updated_before_filter: str | None
    return_images: bool | None
    return_related_questions: bool | None
    search_after_date_filter: str | None
    search_before_date_filter: str | None
    search_domain_filter: list[str] | None
    search_language_filter: list[str] | None
    search_mode: str | None
    search_options: Mapping[str, Any] | None
    search_parameters: Mapping[str, Any] | None
    search_recency_filter: str | None
    web_search: Mapping[str, Any] | bool | None
    # Of Anthropic's and others' own form
    normalize_tool_schemas: bool | None
    stop_sequences: list[str] | None
    system: str | list[Mapping[str, Any]] | None
