"""What rows were made by in, `<name>.json` out: the facts that a view's name only hashes.

    {group: {id: facts}}

A store with a bucket keeps a file for each id instead, `<name>/<group>.<id>.json`, as two machines
cannot change one object without a lock.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import uuid4

from feature_repo import mirror
from feature_repo.atomic import exclusively, publish, replace_text
from feature_repo.base import StoreError

G = TypeVar("G", bound=StrEnum)
T = TypeVar("T")
Stored = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts(Generic[G, T]):
    """One kind of makers (spaces, sources), and where a store keeps what it knows of them."""

    name: str
    """Of the file, and of the folder."""
    groups: Callable[[str], G]
    """The group of its name; raises ValueError where there is none."""
    made_of: Callable[[dict[str, Any]], T]
    """The maker of its facts; raises KeyError, TypeError or ValueError where they are not its."""
    facts_of: Callable[[T], dict[str, Any]]
    id_of: Callable[[T], str]
    mend: str
    """What to do where there is no backup."""

    def read(self, root: Path) -> dict[tuple[G, str], T]:
        """All that are known at `root`; none for a store that does not exist yet.

        Raises:
            StoreError: the file is damaged, or its facts do not hash to the id that it states.
        """
        is_shared = mirror.is_connected(root)
        path = root / (self.name if is_shared else self._file)
        if not is_shared and not path.exists():
            return {}
        try:
            stored = self._read_shared(root) if is_shared else json.loads(path.read_text("utf-8"))
            found = {
                (self.groups(group), one_id): self.made_of(facts)
                for group, by_id in stored.items()
                for one_id, facts in by_id.items()
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{path} is damaged ({error}); restore it from a backup, or delete it and "
                f"{self.mend}"
            ) from error
        for (_, one_id), one in found.items():
            if self.id_of(one) != one_id:
                raise StoreError(
                    f"{path} gives {one_id} the facts of {self.id_of(one)}; restore it from a "
                    "backup"
                )
        return found

    def add(self, root: Path, group: G, one: T) -> None:
        """Remember a maker; several processes may do so at once."""
        with exclusively(root / f".{self._file}.lock"):
            known = self.read(root)
            key = group, self.id_of(one)
            if key in known:
                return
            if mirror.is_connected(root):
                self._share(root, self._path(root, key), one)
            else:
                self._write(root, known | {key: one})

    def remove(self, root: Path, group: G, one: T) -> None:
        """Forget a maker, so that its view is no longer one of the store's."""
        key = group, self.id_of(one)
        with exclusively(root / f".{self._file}.lock"):
            known = self.read(root)
            if mirror.is_connected(root):
                mirror.remove(root, self._path(root, key))
            elif known.pop(key, None):
                self._write(root, known)

    def spread(self, root: Path) -> None:
        """Write the folder from the file: what a bucket that is about to be connected takes."""
        for key, one in self.read(root).items():
            path = self._path(root, key)
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, _text(self.facts_of(one)))

    @property
    def _file(self) -> str:
        return f"{self.name}.json"

    def _path(self, root: Path, key: tuple[G, str]) -> Path:
        group, one_id = key
        return root / self.name / f"{group}.{one_id}.json"

    def _read_shared(self, root: Path) -> Stored:
        folder = root / self.name
        mirror.pull(root, folder)
        stored: Stored = {}
        for path in sorted(folder.glob("[!.]*.json")):
            group, one_id, _ = path.name.split(".")
            stored.setdefault(group, {})[one_id] = json.loads(path.read_text("utf-8"))
        return stored

    def _share(self, root: Path, path: Path, one: T) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            temporary.write_text(_text(self.facts_of(one)), "utf-8")
            mirror.push(root, temporary, path)
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def _write(self, root: Path, known: Mapping[tuple[G, str], T]) -> None:
        stored: Stored = {}
        for (group, one_id), one in known.items():
            stored.setdefault(group, {})[one_id] = self.facts_of(one)
        replace_text(root / self._file, _text(stored))


def connect(root: Path, url: str | None, kinds: Sequence[Facts[Any, Any]]) -> None:
    """Keep a store's parts, probes and facts in a bucket; None leaves them where they are."""
    if url is None:
        return
    if not mirror.is_connected(root):
        for kind in kinds:
            kind.spread(root)
    mirror.connect(root, url)


def _text(facts: object) -> str:
    return json.dumps(facts, indent=2, sort_keys=True) + "\n"
