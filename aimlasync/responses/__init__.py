"""Responses as structs: input and output items, replies, and the events of a stream.

It may import `chat.types`, `wire`, `config` and what lies below them. It exports the structs of requests and whole
replies. The structs of a stream are in `responses.events`, which is imported with the first stream.

    items     the output items of a reply, and their parts
    types     input, tools, the reply, and the parameters of `create`
    parsed    a reply whose answer is a value, as type checkers see it
    events    the events of a stream
    assembler joins the events of a stream into one reply
    message_pieces  what came of one message in pieces
    restated  what is said of an item in one place, and left out in another
"""

from aimlasync.responses.items import (
    Annotation,
    CodeInterpreterCall,
    ComputerCall,
    ComputerCallOutput,
    FileSearchCall,
    FunctionCall,
    ImageGenerationCall,
    LocalShellCall,
    McpApprovalRequest,
    McpCall,
    McpListTools,
    OutputMessage,
    OutputRefusal,
    OutputText,
    ReasoningItem,
    ReasoningText,
    SummaryText,
    Tagged,
    WebSearchCall,
)
from aimlasync.responses.parsed import ParsedResponse
from aimlasync.responses.types import (
    PARAMETERS,
    FunctionCallOutput,
    FunctionTool,
    IncompleteDetails,
    InputFile,
    InputImage,
    InputMessage,
    InputText,
    InputTokensDetails,
    OutputTokensDetails,
    Response,
    ResponseError,
    ResponseParams,
    ResponseUsage,
)

__all__ = [
    "PARAMETERS",
    "Annotation",
    "CodeInterpreterCall",
    "ComputerCall",
    "ComputerCallOutput",
    "FileSearchCall",
    "FunctionCall",
    "FunctionCallOutput",
    "FunctionTool",
    "ImageGenerationCall",
    "IncompleteDetails",
    "InputFile",
    "InputImage",
    "InputMessage",
    "InputText",
    "InputTokensDetails",
    "LocalShellCall",
    "McpApprovalRequest",
    "McpCall",
    "McpListTools",
    "OutputMessage",
    "OutputRefusal",
    "OutputText",
    "OutputTokensDetails",
    "ParsedResponse",
    "ReasoningItem",
    "ReasoningText",
    "Response",
    "ResponseError",
    "ResponseParams",
    "ResponseUsage",
    "SummaryText",
    "Tagged",
    "WebSearchCall",
]
