"""Tells the tool calls of a stream apart, and joins the pieces of each.

Index, id and name all say which call a piece belongs to, and servers leave out, repeat or share any of them. Known so
far: no index, or null; the index 0 for every call; a new index on every piece; no id, an empty one, one for all calls,
or another one on each piece; a name on each piece, or in several; empty arguments before the real ones; arguments that
are said again with each piece, or at the end. It has no I/O. It may import `chat.chunks` and what lies below it.
"""

from __future__ import annotations

import re
from typing import Any

from aimlasync.chat.chunks import ToolCallDelta
from aimlasync.chat.merging import merge, merged
from aimlasync.chat.types import CustomCall, FunctionCall, ToolCall
from aimlasync.wire.pieces import joined
from aimlasync.wire.reading import add_fields

_MARK = re.compile(r'["\\{}\[\]]')
_STRING_END = re.compile(r'["\\]')


class Call:
    """One tool call being joined. Mutable: its pieces, and how far they were searched for the arguments' end."""

    __slots__ = ("_at", "_depth", "_ended", "_in_string", "_skip", "arguments", "id", "input", "more", "name", "type")

    def __init__(self) -> None:
        self.id = ""
        self.type = ""
        self.name = ""
        self.arguments: list[str] = []
        self.input: list[str] | None = None
        # Undeclared fields: those of the call, and of the function in it.
        self.more: tuple[dict[str, Any], dict[str, Any]] | None = None
        self._at = 0
        self._depth = 0
        self._in_string = False
        self._skip = 0
        self._ended = False

    def add(self, piece: ToolCallDelta, *, open: bool = False) -> None:
        """Take in a piece; `open` tells that it may have undeclared fields."""
        self.id = piece.id or self.id
        self.type = piece.type or self.type
        if piece.function is not None:
            if piece.function.name:
                self.name = self._name_with(piece.function.name)
            if piece.function.arguments and not self._repeats(piece.function.arguments):
                if self._is_placeholder(piece.function.arguments) or self._restates(piece.function.arguments):
                    self.arguments, self._at, self._depth, self._skip = [], 0, 0, 0
                    self._in_string = self._ended = False
                self.arguments.append(piece.function.arguments)
        if piece.custom is not None:
            self.name = piece.custom.name or self.name
            self.input = self.input or []
            if piece.custom.input:
                self.input.append(piece.custom.input)
        if open:
            inner = piece.function or piece.custom
            more = (vars(piece), {} if inner is None else vars(inner))
            if any(more):
                self.more = self.more or ({}, {})
                for known, new in zip(self.more, more, strict=True):
                    merge(known, new)

    def _repeats(self, arguments: str) -> bool:
        """Whether a piece is the whole arguments once more, as some servers send them at the end."""
        return arguments[0] == "{" and self.is_whole() and arguments == self.all_arguments()

    def _name_with(self, name: str) -> str:
        """Return the name with a piece of it: mostly it comes whole, also where it comes again."""
        return self.name + name if self.name and not name.startswith(self.name) else name

    def _is_placeholder(self, arguments: str) -> bool:
        """Whether `arguments` begin behind an empty object, with which servers that translate begin a call."""
        return self._ended and arguments.lstrip()[:1] == "{" and self.all_arguments().strip() == "{}"

    def _restates(self, arguments: str) -> bool:
        """Whether a piece says all arguments so far again: but for a value, nothing goes on with its own beginning."""
        known = self.arguments
        if not known or arguments[0] != "{" or len(known) > len(arguments) or not arguments.startswith(known[0]):
            return False
        if self.is_whole() or (not self._in_string and known[-1].rstrip()[-1:] in (*":[,", "")):
            return False
        return arguments.startswith(self.all_arguments())

    def goes_on_with(self, piece: ToolCallDelta, name: str, arguments: str) -> bool:
        """Whether a piece, whose index or place makes it a part of this call, is one."""
        has_new_id = bool(piece.id) and bool(self.id) and piece.id != self.id
        if name and self.name and name != self.name:
            # Before there are arguments, the name may grow, or come in pieces: a call whose id came with its beginning
            # has no other then.
            is_piece = name.startswith(self.name) or bool(self.id)
            return not self.arguments and is_piece and not has_new_id
        begins_object = arguments.lstrip()[:1] == "{"
        if has_new_id and (name or piece.index is None):
            # Some servers make a new id for each piece; such a piece stands in the middle of the arguments.
            return bool(name and self.arguments and arguments) and not begins_object and not self.is_whole()
        if not (name or has_new_id or begins_object) or not arguments.strip() or not self.is_whole():
            return True
        # Text behind an object that has ended: another call, unless by its id or without a name it says the same again,
        # or what the empty object stood for.
        is_same = self._repeats(arguments) or self._is_placeholder(arguments)
        return not has_new_id and (not name or bool(piece.id)) and is_same

    def is_begun(self) -> bool:
        """Whether the arguments begin as an object."""
        return self.all_arguments().lstrip()[:1] == "{"

    def is_whole(self) -> bool:
        """Whether the arguments are an object that has ended. Each piece is searched once."""
        while not self._ended and self._at < len(self.arguments):
            self._search(self.arguments[self._at])
            self._at += 1
        return self._ended

    def _search(self, text: str) -> None:
        at, self._skip = self._skip, 0
        while match := (_STRING_END if self._in_string else _MARK).search(text, at):
            at = match.end()
            mark = match[0]
            if mark == "\\":
                # The character behind it may be in the next piece.
                self._skip = max(at + 1 - len(text), 0)
                at += 1
            elif mark == '"':
                self._in_string = not self._in_string
            elif mark in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    self._ended = True
                    return

    def all_arguments(self) -> str:
        """Return the arguments as one text, which counts as searched if all its pieces were."""
        if self._at not in (0, len(self.arguments)):
            return "".join(self.arguments)
        text, self._at = joined(self.arguments), min(self._at, 1)
        return text

    def whole(self) -> ToolCall:
        """Return the call as far as it came."""
        if self.input is not None:
            custom = CustomCall(name=self.name, input=joined(self.input))
            call = ToolCall(id=self.id, type=self.type or "custom", custom=custom)
        else:
            function = FunctionCall(name=self.name, arguments=self.all_arguments())
            call = ToolCall(id=self.id, type=self.type or "function", function=function)
        if self.more is not None:
            add_fields(call, merged(self.more[0]))
            add_fields(call.function if call.custom is None else call.custom, merged(self.more[1]))
        return call


class Calls:
    """The tool calls of one message. Mutable: the calls, and which of them an index or id last meant."""

    __slots__ = ("_by_id", "_by_index", "_calls", "_latest", "_order")

    def __init__(self) -> None:
        self._calls: list[Call] = []
        # The index that each call began with, None where it had none or that of another call.
        self._order: list[int | None] = []
        self._by_index: dict[int | None, Call] = {}
        self._by_id: dict[str, Call] = {}
        self._latest: Call | None = None

    def add(self, pieces: list[ToolCallDelta], *, open: bool = False) -> None:
        """Take in the pieces of one delta; `open` tells that they may have undeclared fields."""
        # Of two pieces with names in one delta, each is a call.
        named: list[Call] = []
        for piece in pieces:
            function = piece.function
            if not (open or piece.id or piece.type or function is None or function.name):
                # Most pieces: arguments that go on with those under their index.
                known, text = self._by_index.get(piece.index), function.arguments
                if known is not None and known is self._latest and (not text or text[0] not in "{ \t\r\n"):
                    if text:
                        known.arguments.append(text)
                    continue
            self._add(piece, named, open)

    def placed(self, pieces: list[ToolCallDelta]) -> list[tuple[int, Call]]:
        """Take in the pieces of one delta; return the call of each, and which of the calls it is."""
        named: list[Call] = []
        calls = [self._add(piece, named, False) for piece in pieces]
        return [(self._calls.index(call), call) for call in calls]

    def _add(self, piece: ToolCallDelta, named: list[Call], open: bool) -> Call:
        name, arguments = _said(piece)
        call = self._meant_by(piece, name)
        if call is None or (name and call in named) or not call.goes_on_with(piece, name, arguments):
            call = self._begin(piece, call, name)
        if piece.index is not None:
            self._by_index[piece.index] = call
        if piece.id:
            self._by_id[piece.id] = call
        self._latest = call
        if name:
            named.append(call)
        call.add(piece, open=open)
        return call

    def whole(self) -> list[ToolCall]:
        """Return the calls so far, ordered by the server's indices where each call has one of its own."""
        calls = self._calls
        if None not in self._order:
            order = sorted(range(len(calls)), key=lambda number: self._order[number] or 0)
            calls = [calls[number] for number in order]
        return [call.whole() for call in calls]

    def is_cut(self) -> bool:
        """Whether the arguments of a call are an object that has begun and not ended."""
        return any(call.is_begun() and not call.is_whole() for call in self._calls)

    def _begin(self, piece: ToolCallDelta, before: Call | None, name: str) -> Call:
        call = Call()
        if before is not None and not name:
            # A piece may have the arguments alone: then it is another call of the same tool.
            call.name = before.name
        self._order.append(piece.index if piece.index not in self._by_index else None)
        self._calls.append(call)
        return call

    def _meant_by(self, piece: ToolCallDelta, name: str) -> Call | None:
        """Return the call that the index, id or place of a piece means, None for a new one."""
        index, id = piece.index, piece.id
        if index is None:
            return self._by_id.get(id, self._latest) if id else self._latest
        call = self._by_index.get(index)
        if call is None:
            if name or (id and id not in self._by_id):
                return None
            # Some servers count the pieces instead of the calls.
            latest = self._by_id[id] if id else self._latest
            return None if latest is not None and not id and latest.is_whole() else latest
        # Under one index, pieces of several calls may take turns.
        return self._by_id.get(id, call) if id and id != call.id else call


def _said(piece: ToolCallDelta) -> tuple[str, str]:
    """Return the name and the arguments in a piece, "" for what it does not have."""
    if piece.function is not None:
        return piece.function.name or "", piece.function.arguments or ""
    if piece.custom is not None:
        return piece.custom.name or "", ""
    return "", ""
