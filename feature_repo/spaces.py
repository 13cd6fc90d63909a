"""Spaces in, `spaces.json` out: the facts of every space that the store holds vectors of.

A view's name carries only a digest of the facts, so they are kept beside the rows. A store with a
bucket keeps a file for each space instead, `spaces/<entity>.<space id>.json`, as two machines
cannot change one object without a lock.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

from embedders.items import Modality
from embedders.vectors import Space
from feature_repo import mirror
from feature_repo.atomic import exclusively, publish, replace_text
from feature_repo.base import Entity, Spaces, StoreError

FILE = "spaces.json"
FOLDER = "spaces"
Stored = dict[str, dict[str, dict[str, Any]]]


def read(root: Path) -> dict[tuple[Entity, str], Space]:
    """Every space written to the store at `root`; none for a store that does not exist yet.

    Raises:
        StoreError: the file is damaged, or its facts do not hash to the id that it states.
    """
    path = root / (FOLDER if mirror.is_connected(root) else FILE)
    if path.name == FILE and not path.exists():
        return {}
    try:
        stored = _read_shared(root) if path.name == FOLDER else json.loads(path.read_text("utf-8"))
        spaces = {
            (Entity(entity), space_id): _space(facts)
            for entity, by_id in stored.items()
            for space_id, facts in by_id.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path} is damaged ({error}); restore it from a backup, or delete it and embed again"
        ) from error
    for (_, space_id), space in spaces.items():
        if space.space_id != space_id:
            raise StoreError(
                f"{path} gives {space_id} the facts of {space.space_id}; restore it from a backup"
            )
    return spaces


def connect(root: Path, url: str | None) -> None:
    """Keep a store's parts, spaces and probes in a bucket; None leaves them where they are."""
    if url is None:
        return
    if not mirror.is_connected(root):
        for (entity, _), space in read(root).items():
            path = _path(root, space, entity)
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, _text(asdict(space)))
    mirror.connect(root, url)


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
    with exclusively(root / f".{FILE}.lock"):
        spaces = read(root)
        if (entity, space.space_id) in spaces:
            return
        if mirror.is_connected(root):
            _share(root, space, entity)
        else:
            _write(root, spaces | {(entity, space.space_id): space})


def remove(root: Path, space: Space, *, entity: Entity) -> None:
    """Forget a space, so that its view is no longer one of the store's."""
    with exclusively(root / f".{FILE}.lock"):
        spaces = read(root)
        if mirror.is_connected(root):
            mirror.remove(root, _path(root, space, entity))
        elif spaces.pop((entity, space.space_id), None):
            _write(root, spaces)


def _read_shared(root: Path) -> Stored:
    mirror.pull(root, root / FOLDER)
    stored: Stored = {}
    for path in sorted((root / FOLDER).glob("[!.]*.json")):
        entity, space_id, _ = path.name.split(".")
        stored.setdefault(entity, {})[space_id] = json.loads(path.read_text("utf-8"))
    return stored


def _path(root: Path, space: Space, entity: Entity) -> Path:
    return root / FOLDER / f"{entity}.{space.space_id}.json"


def _share(root: Path, space: Space, entity: Entity) -> None:
    path = _path(root, space, entity)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        temporary.write_text(_text(asdict(space)), "utf-8")
        mirror.push(root, temporary, path)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(root: Path, spaces: Spaces) -> None:
    stored: Stored = {}
    for (whom, space_id), space in spaces.items():
        stored.setdefault(whom, {})[space_id] = asdict(space)
    replace_text(root / FILE, _text(stored))


def _text(facts: object) -> str:
    return json.dumps(facts, indent=2, sort_keys=True) + "\n"


def _space(facts: dict[str, Any]) -> Space:
    modality = facts["modality"]
    return Space(**facts | {"modality": None if modality is None else Modality(modality)})
