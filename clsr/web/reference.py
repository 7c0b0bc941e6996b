"""The page that describes the API: its OpenAPI description as HTML that fetches nothing from elsewhere."""

from __future__ import annotations

import html
import json
from typing import Any

STYLE = """
:root { color-scheme: light dark; font: 1rem/1.55 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
section { border: 1px solid #8886; border-radius: .6rem; padding: .2rem 1rem .8rem; margin: 1rem 0 }
h2 { font-size: 1.05rem }
code { font-family: ui-monospace, monospace; font-size: .88rem }
table { border-collapse: collapse; width: 100%; display: block; overflow-x: auto }
td, th { text-align: left; vertical-align: top; padding: .25rem .9rem .25rem 0; border-top: 1px solid #8884 }
.method { font-weight: 700; text-transform: uppercase; margin-right: .6rem }
"""


def reference_page(openapi: dict[str, Any]) -> str:
    """The description of an API as a page of HTML."""
    parts = [
        _operation(openapi, path, method, operation)
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    ]
    title = html.escape(f"{openapi['info']['title']} {openapi['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title} API</title><style>{STYLE}</style><h1>{title} API</h1>"
        f'<p>Machines read <a href="/openapi.json">openapi.json</a>. Faults of a request are answered with status '
        f'4xx and <code>{{"detail": …}}</code>; with a token, every request but that of the health carries '
        f"<code>Authorization: Bearer TOKEN</code>.</p>{''.join(parts)}</html>"
    )


def _operation(openapi: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    tables = [_table("Parameters", [_parameter(one) for one in operation.get("parameters", [])])]
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        description = operation["requestBody"].get("description", "")
        tables.append(f"<p>Body: <code>{html.escape(kind)}</code> {html.escape(description)}</p>")
        tables.append(_schema(openapi, media.get("schema", {})))
    for status, response in operation.get("responses", {}).items():
        if status.startswith("2"):
            schema = response.get("content", {}).get("application/json", {}).get("schema", {})
            tables.append(f"<p>Answer: {html.escape(status)}</p>{_schema(openapi, schema)}")
    return (
        f'<section><h2><span class="method">{html.escape(method)}</span><code>{html.escape(path)}</code></h2>'
        f"<p>{html.escape(operation.get('description', ''))}</p>{''.join(tables)}</section>"
    )


def _schema(openapi: dict[str, Any], schema: dict[str, Any]) -> str:
    """Fields of an object, those of the objects inside it behind them."""
    name = _reference(schema)
    if name is None:
        return ""
    fields = openapi["components"]["schemas"][name].get("properties", {})
    rows = [(field, _type(given), _facts(given)) for field, given in fields.items()]
    inner = [_schema(openapi, kind) for given in fields.values() for kind in _kinds(given)]
    return _table(name, rows) + "".join(inner)


def _kinds(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """What a field may be: itself, or the alternatives of its items."""
    return schema.get("items", {}).get("anyOf") or [schema]


def _reference(schema: dict[str, Any]) -> str | None:
    target = schema.get("$ref") or schema.get("items", {}).get("$ref")
    return target.rsplit("/", 1)[-1] if target else None


def _parameter(given: dict[str, Any]) -> tuple[str, str, str]:
    return f"{given['name']} ({given['in']})", _type(given["schema"]), _facts(given["schema"])


def _type(given: dict[str, Any]) -> str:
    if "anyOf" in given:
        return " or ".join(_type(one) for one in given["anyOf"])
    if "enum" in given:
        return " | ".join(map(json.dumps, given["enum"]))
    if given.get("type") == "array":
        return f"array of {_type(given.get('items', {}))}" if "items" in given else "array"
    return _reference(given) or given.get("type", "any")


def _facts(given: dict[str, Any]) -> str:
    names = {"minimum": "at least", "maximum": "at most", "maxLength": "characters at most", "default": "default"}
    facts = [f"{text} {json.dumps(given[key])}" for key, text in names.items() if key in given]
    return "; ".join([given["description"], *facts] if "description" in given else facts)


def _table(title: str, rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    cells = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(kind)}</td><td>{html.escape(facts)}</td></tr>"
        for name, kind, facts in rows
    )
    return f"<table><tr><th>{html.escape(title)}</th><th>Type</th><th></th></tr>{cells}</table>"
