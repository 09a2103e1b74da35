"""Chat completions as structs: requests, replies, and the chunks of a stream.

It may import `wire`, `config` and what lies below them. It exports the structs of requests and whole replies. The
structs of a stream are in `chat.chunks`, which is imported with the first stream.

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

__all__ = [
    "PARAMETERS",
    "Annotation",
    "ChatCompletion",
    "ChatOptions",
    "ChatParams",
    "Choice",
    "CompletionTokensDetails",
    "CustomCall",
    "DeveloperMessage",
    "FileData",
    "FilePart",
    "Function",
    "FunctionCall",
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
    "ToolMessage",
    "TopLogprob",
    "URLCitation",
    "Usage",
    "UserMessage",
    "UserPart",
]
