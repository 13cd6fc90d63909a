"""A `feature_store.yaml` in, Feast's settings out, with every path below the store's own root.

The same file serves Feast's command line, which finds `data/` beside it, and the store, which
puts its root in the place of `data/`.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import yaml

from feature_repo.base import StoreError

EMBEDDED = Path(__file__).with_name("feature_store.yaml")
_ACCESS = re.compile(
    r"user(name)?\b|password\b|ssl|socket_|retry|conn_type\b|m(in|ax)_|keepalives|key_ttl|skip_"
)
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
    settings = yaml.safe_load(text)
    if not isinstance(settings, dict):
        raise StoreError(f"{profile} holds no settings; it should look like {EMBEDDED}")
    anchored: dict[str, Any] = _fill(settings, root.absolute())
    return anchored


def online_id(settings: dict[str, Any]) -> str:
    """Names the online store: 16 hex digits of the project and of where the store is.

    Who asks, and over which encryption, says nothing of what is stored: a new password must not
    make a store look empty.
    """
    online = settings.get("online_store")
    if isinstance(online, dict):
        online = {key: value for key, value in online.items() if not _ACCESS.match(key)}
        if isinstance(where := online.get("connection_string"), str):
            kept = [part for part in where.split(",") if not _ACCESS.match(part.strip())]
            online["connection_string"] = ",".join(kept)
    facts = json.dumps([settings["project"], online], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _fill(value: Any, root: Path) -> Any:
    """Variables and paths filled in; after parsing, as a password may hold what YAML reads."""
    if isinstance(value, dict):
        return {key: _fill(inner, root) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, root) for inner in value]
    if isinstance(value, str):
        anchored = re.sub(r"^(sqlite:///)?data/", lambda match: f"{match[1] or ''}{root}/", value)
        return os.path.expandvars(anchored)
    return value
