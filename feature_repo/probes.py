"""Probes in, `probes/<space id>.safetensors` out, and back.

They lie beside the rows that the same encoder made, so that a backup has both.
"""

import json
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from embedders.probes import Probes
from embedders.vectors import Space
from feature_repo import mirror
from feature_repo.atomic import publish
from feature_repo.base import StoreError


def path(root: Path, space: Space) -> Path:
    return root / "probes" / f"{space.space_id}.safetensors"


def write(root: Path, space: Space, probes: Probes) -> None:
    """Keep a space's probes; earlier ones are replaced at once."""
    file = path(root, space)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{uuid4().hex}")
    facts = {
        "item_ids": json.dumps(list(probes.item_ids)),
        "created": probes.created.isoformat(),
        "space_id": space.space_id,
    }
    try:
        save_file({"vectors_KD": probes.vectors_KD}, temporary, metadata=facts)
        mirror.push(root, temporary, file)
        publish(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def read(root: Path, space: Space) -> Probes | None:
    """A space's probes; None where none were kept.

    Raises:
        StoreError: the file is damaged.
    """
    file = path(root, space)
    mirror.fetch(root, file)
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="numpy") as stored:
            facts = stored.metadata()
            vectors_KD = stored.get_tensor("vectors_KD")
        probes = Probes(
            item_ids=tuple(json.loads(facts["item_ids"])),
            vectors_KD=vectors_KD,
            created=datetime.fromisoformat(facts["created"]),
        )
        if vectors_KD.shape != (len(probes.item_ids), space.dim):
            raise ValueError(f"{len(probes.item_ids)} probes of shape {vectors_KD.shape}")
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise StoreError(
            f"{file} is damaged ({error}); restore it from a backup, or delete it and embed again "
            "with --repair"
        ) from error
    return probes
