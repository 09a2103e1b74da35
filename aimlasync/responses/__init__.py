"""Responses as structs: input and output items, replies, and the events of a stream.

It may import `chat.types`, `wire`, `config` and what lies below them. It exports the structs of requests and whole
replies. The structs of a stream are in `responses.events`, which is imported with the first stream.

    types     items, tools, the reply, and the parameters of `create`
    parsed    a reply whose answer is a value, as type checkers see it
    events    the events of a stream
    assembler joins the events of a stream into one reply
"""

from aimlasync.responses.parsed import ParsedResponse
from aimlasync.responses.types import (
    PARAMETERS,
    Annotation,
    CodeInterpreterCall,
    ComputerCall,
    ComputerCallOutput,
    FileSearchCall,
    FunctionCall,
    FunctionCallOutput,
    FunctionTool,
    ImageGenerationCall,
    IncompleteDetails,
    InputFile,
    InputImage,
    InputMessage,
    InputText,
    InputTokensDetails,
    LocalShellCall,
    McpApprovalRequest,
    McpCall,
    McpListTools,
    OutputMessage,
    OutputRefusal,
    OutputText,
    OutputTokensDetails,
    ReasoningItem,
    ReasoningText,
    Response,
    ResponseError,
    ResponseParams,
    ResponseUsage,
    SummaryText,
    Tagged,
    WebSearchCall,
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
