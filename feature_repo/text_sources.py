"""Text sources in, `sources.json` out: who wrote the texts that the store holds, and how asked.

A view's name carries only a digest of these facts, so they are kept beside the rows: see `facts`.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from embedders.texts import TextKind, TextSource
from feature_repo.base import StoreError
from feature_repo.facts import Facts


def read(root: Path) -> dict[str, TextSource]:
    """Every source that texts were written of at `root`, by its id.

    Raises:
        StoreError: the file is damaged, or its facts do not hash to the id that it states.
    """
    return {source_id: source for (_, source_id), source in FACTS.read(root).items()}


def check(root: Path, source: TextSource) -> None:
    """See that texts of a source were written.

    Raises:
        StoreError: they were not; the message names the sources that have some.
    """
    known = read(root)
    if source.source_id not in known:
        names = ", ".join(sorted(one for one in known if known[one].kind is source.kind))
        raise StoreError(
            f"the store holds no texts of {source.source_id}, only of: {names or 'nothing'}; "
            "write them first (`sommelier summarize`)"
        )


def add(root: Path, source: TextSource) -> None:
    """Remember a source; several processes may do so at once."""
    FACTS.add(root, source.kind, source)


def remove(root: Path, source: TextSource) -> None:
    """Forget a source, so that its view is no longer one of the store's."""
    FACTS.remove(root, source.kind, source)


def _source(facts: dict[str, Any]) -> TextSource:
    return TextSource(**facts | {"kind": TextKind(facts["kind"])})


FACTS = Facts(
    name="sources",
    groups=TextKind,
    made_of=_source,
    facts_of=asdict,
    id_of=lambda source: source.source_id,
    mend="write the texts again",
)
