"""What a job asked, of which rows, and whether a model answered: from its manifest. Holds no prompt.

Imports the manifest of a journal and the words of schemas.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aimlasync.bulk.journal.manifest import read_manifest

_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a manifest says; a part that it does not say is empty."""

    job: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_simulated(self) -> bool:
        """Whether the built-in simulator answered."""
        return self.job.get("answerer") == "simulator"

    @property
    def input(self) -> str:
        """The name of the file with the rows."""
        for name in (self.facts.get("input"), self.job.get("input")):
            if isinstance(name, str) and name and not _DIGEST.fullmatch(name):
                return os.path.basename(name)
        return ""

    @property
    def rows(self) -> int | None:
        """Rows of the file, None where that is not known."""
        rows = self.facts.get("rows")
        return rows if isinstance(rows, int) and "shard" not in self.job else None

    @property
    def labels(self) -> dict[str, str]:
        """The labels to choose from, and what they mean."""
        labels = self.job.get("labels")
        if not isinstance(labels, dict):
            return {}
        return {str(label): said if isinstance(said, str) else "" for label, said in labels.items()}

    @property
    def is_ordinal(self) -> bool:
        """Whether the labels are in order."""
        return self.job.get("ordinal") is True

    @property
    def schema(self) -> dict[str, Any]:
        """The form of an answer."""
        form = self.job.get("form")
        return form if isinstance(form, dict) else {}

    @property
    def words(self) -> str:
        """What was asked about each row, "" where that is not known."""
        kind, columns = self.job.get("task"), self.facts.get("columns")
        of = f" for its {_listed(columns)}" if isinstance(columns, list) and columns else ""
        if kind == "classify" and self.labels:
            which = "all that apply of" if self.job.get("several labels") is True else "one of"
            return f"{which} {len(self.labels):,} label{'' if len(self.labels) == 1 else 's'}{of}"
        if kind in ("classify", "prompt") and self.schema:
            fields = self.schema.get("properties")
            return f"the fields {_listed(list(fields))}{of}" if isinstance(fields, dict) else f"a form{of}"
        if kind == "prompt":
            return f"an answer to a prompt{of}"
        return "the answer to a request of its own" if kind == "requests" else ""


def asked_of(path: str) -> Asked:
    """Return what the manifest of the journal at `path` says, nothing where there is none to read."""
    found = read_manifest(f"{path}.manifest") or {}
    job, facts = found.get("job"), found.get("facts")
    return Asked(job if isinstance(job, dict) else {}, facts if isinstance(facts, dict) else {})


def _listed(names: list[Any]) -> str:
    shown = [str(name) for name in names[:5]]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
