"""Settings in, a commented TOML file out, its comments read from the owners' own docstrings.

So the file cannot describe a setting that is not there, nor state another default. A value of
None has no TOML form: its key is written as a comment, to be filled in.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sommelier.settings import Settings

WIDTH = 98
HEAD = """\
# Settings of one Sommelier workspace. Every key is optional; what stands here is what holds.
# A misspelt key is refused. `--set a.b=c` and the variable SOMMELIER__A__B=c win over this file.
"""


def commented(settings: Settings) -> str:
    """The text of a settings file that loads as exactly these settings."""
    return HEAD + "".join(_section(settings, ())).rstrip() + "\n"


def _section(value: Any, at: tuple[str, ...]) -> Iterator[str]:
    """One table's keys, then its inner tables, as TOML wants them."""
    docs = field_docs(type(value))
    inner = []
    for one in fields(value):
        held = getattr(value, one.name)
        if is_dataclass(held) or _is_tables(held):
            inner.append((one.name, held))
            continue
        yield _comment(docs.get(one.name, ""))
        yield f"# {one.name} =\n" if held is None else f"{one.name} = {_toml(held)}\n"
    for name, held in inner:
        if _is_tables(held):
            yield from _tables(name, held)
            continue
        yield f"\n{_comment(_summary(held, docs.get(name, '')))}[{'.'.join((*at, name))}]\n"
        yield from _section(held, (*at, name))


def _tables(name: str, rows: tuple[Any, ...]) -> Iterator[str]:
    """An array of tables; of each row only what is set, after one list of all that could be."""
    kind = type(rows[0])
    yield f"\n{_comment(inspect.cleandoc(kind.__doc__ or '').partition(chr(10) + chr(10))[0])}"
    for key, doc in field_docs(kind).items():
        yield _comment(f"{key}: {doc}")
    for row in rows:
        yield f"[[{name}]]\n"
        for one in fields(row):
            if (held := getattr(row, one.name)) is not None:
                yield f"{one.name} = {_toml(held)}\n"


def _is_tables(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and is_dataclass(value[0])


def _summary(value: Any, doc: str) -> str:
    return doc or inspect.cleandoc(type(value).__doc__ or "").partition("\n")[0]


def field_docs(kind: type) -> Mapping[str, str]:
    """Field -> the docstring below it, inherited fields first."""
    docs: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if not is_dataclass(owner):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
        definition = tree.body[0]
        assert isinstance(definition, ast.ClassDef)
        for before, after in zip(definition.body, definition.body[1:], strict=False):
            if not isinstance(before, ast.AnnAssign) or not isinstance(before.target, ast.Name):
                continue
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                docs[before.target.id] = " ".join(str(after.value.value).split())
    return docs


def _comment(text: str) -> str:
    lines = textwrap.wrap(" ".join(text.split()), WIDTH, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime):
        return json.dumps(value.isoformat())
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_toml(str(key))} = {_toml(one)}" for key, one in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return f"[{', '.join(_toml(one) for one in value)}]"
