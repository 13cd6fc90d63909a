"""Releases in, `releases.json` out: which spaces each published generation reads.

Kept beside the rows, so that Feast's own command line defines the same feature services.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedders.vectors import Space
from feature_repo.atomic import exclusively, replace_text
from feature_repo.base import Releases, Spaces, StoreError

FILE = "releases.json"


def read(root: Path) -> Releases:
    """Each release's space ids, by its name; none where nothing was released.

    Raises:
        StoreError: the file is damaged.
    """
    path = root / FILE
    if not path.exists():
        return {}
    try:
        stored: dict[str, list[str]] = json.loads(path.read_text("utf-8"))
        return {str(name): tuple(map(str, space_ids)) for name, space_ids in stored.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete it and publish again") from error


def replace(root: Path, releases: Mapping[str, Sequence[str]]) -> None:
    """Keep these releases and no others."""
    with exclusively(root / f".{FILE}.lock"):
        stored = {name: list(space_ids) for name, space_ids in releases.items()}
        replace_text(root / FILE, json.dumps(stored, indent=2, sort_keys=True) + "\n")


def replace_checked(root: Path, releases: Mapping[str, Sequence[Space]], *, known: Spaces) -> None:
    """Keep these releases and no others, where the store holds what they read.

    Raises:
        StoreError: a release reads a space that the store does not hold.
    """
    ids = {space_id for _, space_id in known}
    for name, read_by in releases.items():
        if absent := sorted({space.space_id for space in read_by} - ids):
            raise StoreError(
                f"release {name} reads {', '.join(absent)}, of which the store holds "
                "nothing; embed them again, or leave the release out"
            )
    replace(root, {name: [one.space_id for one in spaces] for name, spaces in releases.items()})
