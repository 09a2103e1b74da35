"""Chat completions as structs: what is sent, the reply, and the chunks of a stream.

It may import `wire` and what lies below it. It exports the structs of requests and whole replies; those of a stream are
in `chat.chunks`, loaded with the first stream.

    types     messages, tools, the reply, and the parameters of `create`
    chunks    the chunks of a stream
    assembler a stream's chunks as one reply
"""

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
