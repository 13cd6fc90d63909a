"""Spaces in, `spaces.json` out: the facts of every space that the store holds vectors of.

A view's name carries only a digest of the facts, so they are kept beside the rows: see `facts`.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from embedders.items import Modality
from embedders.vectors import Space
from feature_repo.base import Entity, StoreError
from feature_repo.facts import Facts


def read(root: Path) -> dict[tuple[Entity, str], Space]:
    """Every space written to the store at `root`; none for a store that does not exist yet.

    Raises:
        StoreError: the file is damaged, or its facts do not hash to the id that it states.
    """
    return FACTS.read(root)


def check(root: Path, space: Space, *, entity: Entity) -> None:
    """See that a space was written.

    Raises:
        StoreError: it was not; the message names those that were.
    """
    known = read(root)
    if (entity, space.space_id) not in known:
        names = ", ".join(space_id for whom, space_id in sorted(known) if whom is entity)
        raise StoreError(
            f"the store holds no {entity} vectors of {space.space_id}, "
            f"only of: {names or 'nothing'}; embed them first"
        )


def add(root: Path, space: Space, *, entity: Entity) -> None:
    """Remember a space; several processes may do so at once."""
    FACTS.add(root, entity, space)


def remove(root: Path, space: Space, *, entity: Entity) -> None:
    """Forget a space, so that its view is no longer one of the store's."""
    FACTS.remove(root, entity, space)


def _space(facts: dict[str, Any]) -> Space:
    modality = facts["modality"]
    return Space(**facts | {"modality": None if modality is None else Modality(modality)})


FACTS = Facts(
    name="spaces",
    groups=Entity,
    made_of=_space,
    facts_of=asdict,
    id_of=lambda space: space.space_id,
    mend="embed again",
)
