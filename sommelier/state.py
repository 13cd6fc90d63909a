"""What each stage made, and from what, in; whether it has to run again out.

One JSON file in the workspace, a table for each stage. A stage writes its table when all of its
work is done, so an interrupted one is run again and finds what it had finished.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from feature_repo.atomic import replace_text

FILE = "state.json"


class State:
    """The stages of one workspace."""

    def __init__(self, workspace: Path) -> None:
        self.path = workspace / FILE

    def read(self, stage: str) -> dict[str, Any]:
        """What a stage noted; empty where it has not finished yet.

        Raises:
            ValueError: the file is damaged.
        """
        found: dict[str, Any] = self._all().get(stage, {})
        return found

    def write(self, stage: str, facts: dict[str, Any]) -> None:
        """Note what a stage made; earlier notes of it are replaced."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        stages = self._all() | {stage: facts}
        replace_text(self.path, json.dumps(stages, indent=2, sort_keys=True) + "\n")

    def _all(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        try:
            stages: dict[str, Any] = json.loads(self.path.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{self.path} is damaged ({error}): delete it and run the stages again; what the "
                "store holds is kept"
            ) from error
        return stages


def digest(*facts: object) -> str:
    """Sixteen hex digits that change when any fact does; facts are bytes, or have a stable repr."""
    whole = hashlib.sha256()
    for fact in facts:
        part = fact if isinstance(fact, bytes) else repr(fact).encode()
        whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()[:16]
