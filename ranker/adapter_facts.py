"""An adapter's folder in, what it was trained on and with out: all of it but the weights."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from embedders.texts import TextSource
from embedders.vectors import Space
from ranker.config import RankerConfig

FACTS = "adapter.json"


class AdapterError(ValueError):
    """An adapter folder that cannot be used; the message says what to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFacts:
    """What an adapter was trained on and with: the part of it that is not weights."""

    spaces: tuple[Space, ...]
    """Of the blocks that retrieval searches, by name; those of modalities are fused."""
    behaviors: tuple[str, ...]
    llm: str
    llm_revision: str
    config: RankerConfig
    training: Mapping[str, Any]
    """Steps, losses, numbers of examples, versions: for people."""
    asked: tuple[str, ...] = ()
    """The behaviors that training asked about, and a query may; empty where none was told apart."""
    texts: tuple[TextSource, ...] = ()
    """Who wrote what prompts hold of items and users: texts of others would say other things."""

    def save(self, folder: Path) -> None:
        """Write them; `read_facts` reads them."""
        (folder / FACTS).write_text(json.dumps(asdict(self), indent=1, sort_keys=True))


def read_facts(folder: Path) -> AdapterFacts:
    """An adapter's facts, without its weights.

    Raises:
        AdapterError: no adapter is there, or its facts are damaged.
    """
    try:
        facts = json.loads((folder / FACTS).read_text())
        return TypeAdapter(AdapterFacts).validate_python(facts)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise AdapterError(
            f"{folder} holds no adapter ({reason}): run `sommelier train`"
        ) from error
