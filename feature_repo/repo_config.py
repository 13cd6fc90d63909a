"""A `feature_store.yaml` in, Feast's settings out, with every path below the store's own root.

The same file serves Feast's command line, which finds `data/` beside it, and the store, which
puts its root in the place of `data/`.
"""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from feature_repo.base import StoreError

EMBEDDED = Path(__file__).with_name("feature_store.yaml")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def load(profile: Path, *, root: Path) -> dict[str, Any]:
    """The settings of one environment.

    Raises:
        StoreError: the file is missing or not a mapping, or names an environment variable that
            is not set (Feast would open a database of that literal name).
    """
    if not profile.is_file():
        raise StoreError(f"there is no Feast profile {profile}; name a feature_store.yaml")
    lines = profile.read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    names = {match[1] or match[2] for match in _VARIABLE.finditer(text)}
    if unset := sorted(names - os.environ.keys()):
        raise StoreError(
            f"{profile} needs the environment variables {', '.join(unset)}; set them first"
        )
    settings = yaml.safe_load(os.path.expandvars(text))
    if not isinstance(settings, dict):
        raise StoreError(f"{profile} holds no settings; it should look like {EMBEDDED}")
    anchored: dict[str, Any] = _anchor(settings, root.absolute())
    return anchored


def _anchor(value: Any, root: Path) -> Any:
    if isinstance(value, dict):
        return {key: _anchor(inner, root) for key, inner in value.items()}
    if isinstance(value, list):
        return [_anchor(inner, root) for inner in value]
    if isinstance(value, str):
        return re.sub(r"^(sqlite:///)?data/", lambda match: f"{match[1] or ''}{root}/", value)
    return value
