"""A folder in peft's format in, an adapter pinned by its digest out, fit for a checkpoint or not.

Two files count: `adapter_config.json` and `adapter_model.safetensors`. A third, `tuning.json`,
is written by this project and says which weights the adapter was made for, and up to which moment
the events lie that it was tuned on; without it, the hub's name and commit in `adapter_config.json`
are compared, where both sides have them. A pickle is never read.

Only settings that change no vector may differ from peft's defaults, beside those listed: any
other one would be a way of computing that nobody here has tested.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

CONFIG, WEIGHTS, TUNING = "adapter_config.json", "adapter_model.safetensors", "tuning.json"
FORMAT = 1  # of tuning.json
MAX_CONFIG_BYTES = 1 << 20
MAX_VIRTUAL_TOKENS = 1000

# Method, as settings name it -> peft's name.
PEFT_TYPES = {
    "lora": "LORA",
    "ia3": "IA3",
    "prompt": "PROMPT_TUNING",
    "prefix": "PREFIX_TUNING",
    "bitfit": "BEFT",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter that can no longer change under the vectors made with it."""

    folder: Path
    revision: str
    """The sha256 over the digests of its two files."""
    config: dict[str, Any]
    """`adapter_config.json`."""
    until: datetime | None
    """The cut of the events that it was tuned on, in UTC; None where nobody says so."""

    @property
    def num_virtual_tokens(self) -> int:
        """Positions that it takes before a text's own tokens; 0 of those that change layers."""
        return int(self.config.get("num_virtual_tokens") or 0)


def resolve(folder: Path, *, name: str, revision: str) -> Adapter:
    """Read and check an adapter's folder.

    Args:
        folder: Holds the adapter.
        name: The hub id, the folder's or the model's name of the weights it is put on.
        revision: Those weights' commit or digest.

    Raises:
        ValueError: no such folder, a missing or damaged file, a method that is not known, or an
            adapter that was made for other weights.
    """
    if not folder.is_dir():
        raise ValueError(
            f"adapter {folder}: no such folder; `sommelier tune-encoders` writes one, or leave "
            "the option out"
        )
    if not (folder / WEIGHTS).is_file():
        pickles = sorted(path.name for path in folder.glob("adapter_model.*"))
        found = f" (weights in {', '.join(pickles)} are never read)" if pickles else ""
        raise ValueError(
            f"adapter {folder} holds no {WEIGHTS}{found}; save it again in safetensors"
        )
    config = _config(folder)
    tuning = _json(folder / TUNING) if (folder / TUNING).exists() else None
    made_for = _noted_base(config) if tuning is None else _stated_base(folder, tuning)
    if made_for[1] not in (None, revision) and (tuning is not None or made_for[0] == name):
        raise ValueError(
            f"adapter {folder} was made for {made_for[0]} of revision {made_for[1]}, and would be "
            f"put on {name} of revision {revision}; name the model it was made for, or tune again"
        )
    return Adapter(
        folder=folder,
        revision=_digest(folder),
        config=config,
        until=None if tuning is None else _moment(folder, tuning.get("until")),
    )


def facts(*, name: str, revision: str, method: str, until: datetime | None) -> dict[str, Any]:
    """What `tuning.json` says, for `resolve` to compare."""
    return {
        "format": FORMAT,
        "base": {"name": name, "revision": revision},
        "method": method,
        "until": None if until is None else until.isoformat(),
    }


def _config(folder: Path) -> dict[str, Any]:
    config = _json(folder / CONFIG)
    if config.get("peft_type") not in PEFT_TYPES.values():
        raise ValueError(
            f"adapter {folder}: its method is {config.get('peft_type')!r}, known are "
            f"{', '.join(PEFT_TYPES.values())}"
        )
    tokens = config.get("num_virtual_tokens") or 0
    if not isinstance(tokens, int) or not 0 <= tokens <= MAX_VIRTUAL_TOKENS:
        raise ValueError(
            f"adapter {folder}: num_virtual_tokens is {tokens!r}, allowed are 0 to "
            f"{MAX_VIRTUAL_TOKENS}"
        )
    return config


def _noted_base(config: dict[str, Any]) -> tuple[object, object]:
    """The hub's name and commit, as peft notes them; often neither."""
    return config.get("base_model_name_or_path"), config.get("revision")


def _stated_base(folder: Path, tuning: dict[str, Any]) -> tuple[object, object]:
    base = tuning.get("base")
    if not isinstance(base, dict) or not {"name", "revision"} <= base.keys():
        raise ValueError(f"adapter {folder}: {TUNING} does not say what it was made for")
    return base["name"], base["revision"]


def _moment(folder: Path, text: object) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(str(text))
        if moment.tzinfo is None:
            raise ValueError("it has no time zone")
    except ValueError as error:
        raise ValueError(f"adapter {folder}: until = {text!r} in {TUNING}: {error}") from error
    return moment


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError(f"it is larger than {MAX_CONFIG_BYTES:,} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"adapter {path.parent}: {path.name} cannot be read ({error}); copy the folder again, "
            "or tune again"
        ) from error
    return found


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
