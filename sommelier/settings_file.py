"""A TOML file, environment variables and `--set` words in, checked `Settings` out.

Later ones win: the file, then `SOMMELIER__A__B=c`, then `--set a.b=c`. Values of the latter two
are TOML (`3`, `true`, `["a", "b"]`), and what is not is taken as text. A key that nobody reads is
refused, at every level: a misspelt setting must not pass for a default.

Paths in the file are relative to the file.
"""

import difflib
import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from embedders.registry import EncoderConfig
from ranker.limits import ServerConfig
from sommelier.commented import commented
from sommelier.settings import PreferenceSettings, Settings, SummarySettings

PREFIX = "SOMMELIER__"
Writes = TypeVar("Writes", SummarySettings, PreferenceSettings)


class SettingsError(ValueError):
    """Settings that cannot be used; the message names the key and what to write instead."""


def load(
    path: Path | None,
    *,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of a file, with every path made absolute.

    Args:
        path: The file; None takes the defaults, relative to the working directory.
        overrides: Words such as `ranker.training.fusion_steps=40`.
        environment: Variables such as `SOMMELIER__SERVER__PORT`; others are passed over.

    Raises:
        SettingsError: the file is missing or no TOML, or a key or value cannot be used.
    """
    table = _read(path) if path else {}
    source = str(path) if path else "the settings"
    for name, text in sorted((environment or {}).items()):
        if name.startswith(PREFIX):
            _set(table, name.removeprefix(PREFIX).lower().split("__"), text, source=name)
    _override(table, overrides)
    base = path.absolute().parent if path else Path.cwd()
    return resolve(parse(table, source=source), base)


def overridden(settings: Settings, overrides: Sequence[str]) -> Settings:
    """The same settings, paths as written, with words such as `index.kind=exact` applied.

    Raises:
        SettingsError: a word is no `a.b=c`, or a key or value cannot be used.
    """
    table = tomllib.loads(commented(settings))
    _override(table, overrides)
    return parse(table, source="--set")


def parse(table: Mapping[str, Any], *, source: str = "the settings") -> Settings:
    """Nested plain values -> settings, paths as written.

    Raises:
        SettingsError: an unknown key, a wrong type or a value that its owner refuses.
    """
    _refuse_unknown(table, Settings, (), source)
    text = json.dumps(table, default=_plain)
    try:
        # By way of JSON: there, strict means that "5" is no number, yet a text may be a path.
        return _adapter().validate_json(text, strict=True)
    except ValidationError as error:
        lines = [f"{_dotted(one)}: {_explained(one)}" for one in error.errors()]
        raise SettingsError(f"{source}: " + "\n".join(dict.fromkeys(lines))) from error


def resolve(settings: Settings, base: Path) -> Settings:
    """The same settings with absolute paths; `base` is the folder of their file."""
    paths, store, server = settings.paths, settings.store, settings.server
    workspace = _join(base, paths.workspace)
    llm = settings.ranker.llm
    return replace(
        settings,
        catalog=replace(settings.catalog, path=_join(base, settings.catalog.path)),
        store=replace(
            store,
            root=_join(workspace, store.root),
            profile=_join(base, store.profile) if store.profile else None,
        ),
        paths=replace(
            paths,
            workspace=workspace,
            **{
                name: _join(workspace, getattr(paths, name))
                for name in ("models", "index", "generations", "report")
            },
        ),
        encoders=tuple(_encoder(base, one) for one in settings.encoders),
        summaries=_written_by(base, settings.summaries),
        preferences=_written_by(base, settings.preferences),
        ranker=replace(settings.ranker, llm=replace(llm, model=_local(base, llm.model))),
        server=_secured(base, server),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(
            f"there is no settings file {path}: run `sommelier init` to write one, or name "
            "another with --settings"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no valid TOML: {error}") from error


def _override(table: dict[str, Any], overrides: Sequence[str]) -> None:
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise SettingsError(f"--set {word}: expected <section>.<key>=<value>")
        _set(table, key.split("."), text, source=f"--set {word}")


def _set(table: dict[str, Any], keys: list[str], text: str, *, source: str) -> None:
    """Put one value into nested tables; `encoders.0.encoder` reaches into a list."""
    inner: Any = table
    for place, key in enumerate(keys):
        if isinstance(inner, list):
            if not key.isdigit() or int(key) >= len(inner):
                raise SettingsError(
                    f"{source}: {'.'.join(keys[:place])} has the places 0 to {len(inner) - 1}, "
                    f"got {key!r}"
                )
            slot: Any = int(key)
        elif isinstance(inner, dict):
            slot = key
        else:
            raise SettingsError(f"{source}: {'.'.join(keys[:place])} is a value, not a section")
        if place == len(keys) - 1:
            inner[slot] = _value(text)
        else:
            inner = inner.setdefault(slot, {}) if isinstance(inner, dict) else inner[slot]


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


@cache
def _adapter() -> TypeAdapter[Settings]:
    return TypeAdapter(Settings)


def _refuse_unknown(value: Any, kind: Any, at: tuple[str, ...], source: str) -> None:
    """Walk values and types together; pydantic itself passes over a dataclass's unknown keys."""
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
        known = {one.name for one in fields(kind)}
        hints = _hints(kind)
        for key, inner in value.items():
            if key not in known:
                raise SettingsError(f"{source}: {_unknown('.'.join((*at, key)), key, known)}")
            _refuse_unknown(inner, hints[key], (*at, key), source)
    elif typing.get_origin(kind) in (typing.Union, types.UnionType):
        for option in typing.get_args(kind):
            _refuse_unknown(value, option, at, source)
    elif typing.get_origin(kind) is tuple and isinstance(value, list):
        for place, inner in enumerate(value):
            _refuse_unknown(inner, typing.get_args(kind)[0], (*at, str(place)), source)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _unknown(dotted: str, key: str, known: Iterable[str]) -> str:
    names = sorted(known)
    nearest = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"no setting {dotted!r}: {hint}Allowed here: {', '.join(names)}"


def _plain(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise SettingsError(f"{value!r} is of no type that a setting has")


def _dotted(error: ErrorDetails) -> str:
    # pydantic names the member of a union that it tried; the user knows only their keys.
    keys = [str(key) for key in error["loc"] if not str(key).startswith(("literal[", "datetime"))]
    return ".".join(keys) or "the settings"


def _explained(error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if error["type"] == "value_error":
        return message
    return f"{message}, got {json.dumps(error['input'], default=str)}"


def _written_by(base: Path, section: Writes) -> Writes:
    """The same section, the folder of its writer's model absolute; a server's model is a name."""
    writer = section.writer
    if writer.engine != "transformers" or writer.model is None:
        return section
    return replace(section, writer=replace(writer, model=_local(base, writer.model)))


def _secured(base: Path, server: ServerConfig) -> ServerConfig:
    """The same server, its files' paths absolute."""
    names = ("tls_certificate", "tls_key", "tls_client_ca", "callers")
    absolute: dict[str, Any] = {
        name: _join(base, path) for name in names if (path := getattr(server, name)) is not None
    }
    return replace(server, **absolute)


def _encoder(base: Path, config: EncoderConfig) -> EncoderConfig:
    """The same encoder, the folders that it is read from absolute."""
    return replace(
        config,
        model=_local(base, config.model) if config.model else config.model,
        adapter=_join(base, config.adapter) if config.adapter else None,
    )


def _join(base: Path, path: Path) -> Path:
    return Path(base, path.expanduser()).resolve()


def _local(base: Path, model: str) -> str:
    """A model's folder or file made absolute; a hub id stays."""
    path = _join(base, Path(model))
    return str(path) if path.exists() else model
