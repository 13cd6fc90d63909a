"""Releases in, `releases.json` out: which spaces and texts each published generation reads.

Kept beside the rows, so that Feast's own command line defines the same feature services.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedders.texts import TextSource
from embedders.vectors import Space
from feature_repo.atomic import exclusively, replace_text
from feature_repo.base import Releases, Sources, Spaces, StoreError

FILE = "releases.json"


def read(root: Path) -> Releases:
    """The ids of each release's spaces and text sources, by its name; none where none was made.

    Raises:
        StoreError: the file is damaged.
    """
    path = root / FILE
    if not path.exists():
        return {}
    try:
        stored: dict[str, list[str]] = json.loads(path.read_text("utf-8"))
        return {str(name): tuple(map(str, ids)) for name, ids in stored.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete it and publish again") from error


def replace(root: Path, releases: Mapping[str, Sequence[str]]) -> None:
    """Keep these releases and no others."""
    with exclusively(root / f".{FILE}.lock"):
        stored = {name: list(ids) for name, ids in releases.items()}
        replace_text(root / FILE, json.dumps(stored, indent=2, sort_keys=True) + "\n")


def replace_checked(
    root: Path,
    releases: Mapping[str, Sequence[Space | TextSource]],
    *,
    spaces: Spaces,
    sources: Sources,
) -> None:
    """Keep these releases and no others, where the store holds what they read.

    Raises:
        StoreError: a release reads a space or a text source that the store does not hold.
    """
    held = {space_id for _, space_id in spaces} | sources.keys()
    ids = {name: [origin_id(one) for one in read_by] for name, read_by in releases.items()}
    for name, read_by in ids.items():
        if absent := sorted(set(read_by) - held):
            raise StoreError(
                f"release {name} reads {', '.join(absent)}, of which the store holds "
                "nothing; embed them again, or leave the release out"
            )
    replace(root, ids)


def origin_id(one: Space | TextSource) -> str:
    """By what a release names a space or a source: their ids never meet, as both hold a digest."""
    return one.source_id if isinstance(one, TextSource) else one.space_id
