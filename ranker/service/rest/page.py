"""An OpenAPI description in, a page for people out: no script, nothing loaded from elsewhere."""

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

HEADERS = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}td,th{border:1px solid #8886;padding:.2rem .6rem;text-align:left;
vertical-align:top}code,pre{font-family:ui-monospace,monospace;font-size:.9em}
pre{background:#8882;padding:.6rem;overflow-x:auto}:root{color-scheme:light dark}"""
EXAMPLES = {
    "rerank": '{"model": "sommelier", "query": "ada", "documents": ["a", "b"], "top_n": 1}',
    "recommend": '{"user_id": "ada", "top_k": 3}',
}


def render(openapi: Mapping[str, Any]) -> str:
    """The page: every path with its fields, the shapes of answers, and how to ask from a shell."""
    info = openapi["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>",
        f"<style>{STYLE}</style><h1>{escape(info['title'])}</h1>",
        f"<p>{_told(info['description'])}</p>",
        "<p>For programs: <a href=openapi.json>openapi.json</a>.</p>",
    ]
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parts += _operation(method.upper(), path, operation)
    parts.append("<h2>Shapes</h2>")
    for name, schema in sorted(openapi["components"]["schemas"].items()):
        if schema.get("properties"):
            parts += _schema(name, schema)
    return "".join(parts)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{method} {escape(path)}</code></h2><p>{escape(operation['summary'])}.</p>"
    if "description" in operation:
        yield f"<p>{_told(operation['description'])}</p>"
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if body:
        yield f"<p>Body: {_type(body['schema'])}.</p>"
    for code, answer in sorted(operation["responses"].items()):
        content = answer.get("content", {}).get("application/json", {})
        told = "any other code" if code == "default" else code
        yield f"<p>{told}: {_type(content.get('schema', {}))}.</p>"
    command = f"curl -s http://127.0.0.1:8080{path}"
    if body:
        example = EXAMPLES[operation["operationId"].split("_")[0]]
        command += f" \\\n  -H 'content-type: application/json' \\\n  -d '{example}'"
    yield f"<pre>{escape(command)}</pre>"


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h3 id={escape(name)}>{escape(name)}</h3><p>{_told(schema.get('description', ''))}</p>"
    yield "<table><tr><th>field<th>type<th>needed<th></tr>"
    required = schema.get("required", [])
    for field, facts in schema["properties"].items():
        needed = "yes" if field in required else ""
        yield (
            f"<tr><td><code>{escape(field)}</code><td>{_type(facts)}<td>{needed}"
            f"<td>{_told(facts.get('description', ''))}</tr>"
        )
    yield "</table>"


def _type(schema: Mapping[str, Any]) -> str:
    """A schema's type in a few words, linked where it is described on this page."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[1])
        return f"<a href=#{name}>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"] if one.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("type", "JSON")))


def _told(text: str) -> str:
    """A sentence; what stands between backticks is code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))
