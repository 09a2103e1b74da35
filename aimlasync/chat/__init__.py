"""Chat completions as structs: requests, replies, and the chunks of a stream.

It may import `wire`, `config` and what lies below them. It exports the structs of requests and whole replies, and
those of a stream, whose module `chat.chunks` is imported when the first of them is asked for.

    types              messages, tools, the reply, and the parameters of `create`
    vendor_parameters  parameters of `create` that vendors have beyond OpenAI's
    endings            what a finish reason means, in the words of all vendors
    bare_calls         tool calls without the object around their name and arguments
    parsed             a reply whose answer is a value, as type checkers see it
    chunks             the chunks of a stream, and their decoder
    repeats            reads chunks that repeat the one before but for their text
    call_pieces        which tool call a piece of a stream belongs to
    merging            joins fields of deltas that no struct declares
    assembler          joins the chunks of a stream into one reply
"""

from typing import TYPE_CHECKING, Any

from aimlasync.chat.parsed import ParsedChatCompletion
from aimlasync.chat.types import (
    PARAMETERS,
    Annotation,
    ChatCompletion,
    ChatOptions,
    ChatParams,
    Choice,
    CompletionTokensDetails,
    CustomCall,
    DeveloperMessage,
    FileData,
    FilePart,
    Function,
    FunctionCall,
    FunctionTool,
    ImagePart,
    ImageURL,
    Logprobs,
    Message,
    PromptTokensDetails,
    RefusalPart,
    SystemMessage,
    TextPart,
    TokenLogprob,
    ToolCall,
    ToolMessage,
    TopLogprob,
    URLCitation,
    Usage,
    UserMessage,
    UserPart,
)

if TYPE_CHECKING:
    from aimlasync.chat.chunks import ChatCompletionChunk, ChunkChoice, Delta, FunctionDelta, ToolCallDelta

__all__ = [
    "PARAMETERS",
    "Annotation",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatOptions",
    "ChatParams",
    "Choice",
    "ChunkChoice",
    "CompletionTokensDetails",
    "CustomCall",
    "Delta",
    "DeveloperMessage",
    "FileData",
    "FilePart",
    "Function",
    "FunctionCall",
    "FunctionDelta",
    "FunctionTool",
    "ImagePart",
    "ImageURL",
    "Logprobs",
    "Message",
    "ParsedChatCompletion",
    "PromptTokensDetails",
    "RefusalPart",
    "SystemMessage",
    "TextPart",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "ToolMessage",
    "TopLogprob",
    "URLCitation",
    "Usage",
    "UserMessage",
    "UserPart",
]

_OF_A_STREAM = ("ChatCompletionChunk", "ChunkChoice", "Delta", "FunctionDelta", "ToolCallDelta")

if not TYPE_CHECKING:  # with it, checkers would take any name

    def __getattr__(name: str) -> Any:
        """Return a struct of a stream. Raises AttributeError for any other name."""
        if name not in _OF_A_STREAM:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from aimlasync.chat import chunks

        return getattr(chunks, name)
