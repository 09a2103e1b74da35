"""The model catalogue and the account's balance on the wire: structs and their decoders.

One struct reads the models of all vendors; what a vendor does not state is None. It has no I/O. It may import
`wire.base`. Sources: AI/ML API "Complete model list", "Account balance"; ByteSpike "Utility: v1/models", "Account: me";
OpenAI's model object, which other servers send.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, ClassVar

import msgspec

from aimlasync.wire.base import Json, Open, Reply, Wire, decode
from aimlasync.wire.objects import json_hook
from aimlasync.wire.reading import Place, build


class ModelInfo(Open, rename="camel"):
    """The details of a model in the AI/ML API's catalogue."""

    name: str | None = None
    developer: str | None = None
    description: str | None = None
    context_length: int | None = None
    output_max: int | None = None
    released_at: str | None = None
    cutoff_at: str | None = None
    url: str | None = None
    docs_url: str | None = None
    docs_json: str | None = None


class Model(Reply):
    """One model of a vendor's catalogue; `id` is its name where the server gives it no other id."""

    DERIVED: ClassVar[frozenset[str]] = frozenset(("id",))

    id: str = ""
    object: str = "model"
    created: int | None = None
    owned_by: str | None = None
    # AI/ML API
    aliases: list[str] = []
    type: str | None = None
    info_: ModelInfo | None = msgspec.field(default=None, name="info")
    tags: list[str] = []
    modalities: Json = None
    capabilities: Json = None
    pricing: Json = None
    """The prices as the vendor states them; every price is for `per` units."""
    # ByteSpike
    family: str | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None

    @property
    def context(self) -> int | None:
        """The context window in tokens, None when the vendor does not state it."""
        return self.context_window or (self.info_.context_length if self.info_ is not None else None)

    @property
    def max_output(self) -> int | None:
        """The largest output in tokens, None when the vendor does not state it."""
        return self.max_output_tokens or (self.info_.output_max if self.info_ is not None else None)

    def settle(self) -> None:
        if not self.id:
            names = (vars(self).get(key) for key in ("model", "name", "slug"))
            self.id = next((name for name in names if name and isinstance(name, str)), "")

    def named(self, name: str) -> bool:
        """Whether `name` is this model's id or one of its aliases, ignoring case."""
        return name.lower() in (self.id.lower(), *(alias.lower() for alias in self.aliases))


class ModelList(Reply):
    """A vendor's catalogue: iterate it, or read `.data`."""

    DERIVED: ClassVar[frozenset[str]] = frozenset(("data",))

    object: str = "list"
    data: list[Model] = []

    def __iter__(self) -> Iterator[Model]:
        return iter(self.data)

    async def __aiter__(self) -> AsyncIterator[Model]:
        for model in self.data:
            yield model

    def __len__(self) -> int:
        return len(self.data)

    def has_next_page(self) -> bool:
        """Return False: a catalogue comes whole."""
        return False

    # It iterates models, so these make `dict(models)` and FastAPI's encoder see its fields.
    def keys(self) -> Iterable[str]:
        """Return the names of the fields in `to_dict`."""
        return self.to_dict().keys()

    def __getitem__(self, key: str | int) -> Any:
        return self.to_dict()[key] if isinstance(key, str) else self.data[key]


class Balance(Wire):
    """The balance of an account in US dollars, and the name of its endpoint."""

    usd: float | None = None
    endpoint: str = ""


class _ModelEnvelope(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"")

    current_balance: float | None = None


class _Wallet(Wire):
    available_usd: float | None = None


class _Account(Wire):
    """ByteSpike, /api/v1/me/account."""

    balance: _Wallet | None = None
    current_balance: float | None = None


_model = msgspec.json.Decoder(Model, dec_hook=json_hook)
_models = msgspec.json.Decoder(ModelList, dec_hook=json_hook)
_envelope = msgspec.json.Decoder(_ModelEnvelope)
_account = msgspec.json.Decoder(_Account)


def decode_models(raw: bytes) -> ModelList:
    """Decode a catalogue, also a bare array, or one by the name "models" (Cohere). Raises msgspec.DecodeError."""
    raw = raw.removeprefix(BOM_UTF8)
    if raw.lstrip()[:1] == b"[":
        raw = b'{"data":%b}' % raw
    models = decode(raw, _models, ModelList)
    if not hasattr(models, "json_place"):
        # The exact types did.
        models.json_place = raw
        for number, model in enumerate(models.data):
            _place(model, (raw, "data", number))
    if not models.data and isinstance(listed := vars(models).get("models"), list):
        models.data = [
            build(model, Model, (raw, "models", number))
            for number, model in enumerate(listed)
            if isinstance(model, dict)
        ]
    for model in models.data:
        model.settle()
    return models


def decode_model(raw: bytes) -> Model:
    """Decode one model, in AI/ML API's {"object", "data"} envelope or bare. Raises msgspec.DecodeError."""
    inner = bytes(decode(raw, _envelope, _ModelEnvelope).data)
    if inner[:1] == b"{":
        raw = inner
    model = decode(raw, _model, Model)
    if not hasattr(model, "json_place"):
        _place(model, (raw,))
    return model


def _place(model: Model, place: Place) -> None:
    model.json_place = place
    if model.info_ is not None:
        model.info_.json_place = (*place, "info")


def decode_balance(raw: bytes) -> float | None:
    """Return the balance in US dollars, None when the body does not state it. Raises msgspec.DecodeError."""
    account = decode(raw, _account, _Account)
    if account.current_balance is not None:
        return account.current_balance
    return account.balance.available_usd if account.balance is not None else None
