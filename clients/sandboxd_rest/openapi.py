"""The OpenAPI document and the page made of it. Its schemas come from the types on the wire."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

import sandboxd
from sandboxd_rest.http import Response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandboxd_rest.app import Dialect

_REFERENCE: Final = "#/components/schemas/{name}"
_PAGE_HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    ),
)


def reference(kind: type) -> dict[str, Any]:
    return {"$ref": _REFERENCE.format(name=kind.__name__)}


def array(kind: type) -> dict[str, Any]:
    return {"type": "array", "items": reference(kind)}


def json_body(kind: type) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": reference(kind)}}}


def operation(
    summary: str,
    answer: Mapping[str, Any],
    failures: Mapping[str, Any],
    body: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One method of a path: what it answers with 200, and with other codes; NOTHING: no body."""
    shapes = {"200": ("OK", answer)}
    shapes |= {code: (_REASONS.get(code, "Error"), shape) for code, shape in failures.items()}
    found: dict[str, Any] = {
        "summary": summary,
        "responses": {
            code: {"description": reason}
            if shape is NOTHING
            else {"description": reason, "content": {"application/json": {"schema": dict(shape)}}}
            for code, (reason, shape) in shapes.items()
        },
    }
    if body is not None:
        found["requestBody"] = dict(body)
    return found


NOTHING: Final[Mapping[str, Any]] = {}
_REASONS: Final = {
    "400": "The request is wrong; the message says where.",
    "401": "There is no such key.",
    "403": "Not allowed.",
    "404": "There is no such thing.",
    "408": "The body did not come in time.",
    "409": "Not in this state, or there is one already.",
    "413": "The body is too large.",
    "415": "The body is not of a kind that is taken.",
    "422": "The function failed; the message says how.",
    "500": "It failed; the message says how.",
    "503": "Not now; see Retry-After.",
}


def document(dialects: Iterable[Dialect]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, Any] = {}
    types: list[Any] = []
    for dialect in dialects:
        paths |= {path: _complete(path, item) for path, item in dialect.paths.items()}
        types += dialect.types
    _, schemas = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sandboxd-rest",
            "version": sandboxd.__version__,
            "description": "Runs untrusted programs, each in a sandbox of its own.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _complete(path: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """A path's item, whose operations know all the parameters in the path."""
    found = dict(item)
    for method, what in item.items():
        given = list(what.get("parameters", ())) if isinstance(what, Mapping) else []
        names = [one["name"] for one in given]
        missing = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", path)
            if name not in names
        ]
        if missing:
            found[method] = {**what, "parameters": [*missing, *given]}
    return found


def page(described: Mapping[str, Any]) -> Response:
    """The document for a person: one page of HTML that needs nothing else."""
    parts = [_HEAD]
    for path, methods in described["paths"].items():
        for method, what in methods.items():
            if isinstance(what, str):
                parts.append(f"<h2><code>{html.escape(path)}</code></h2><p>{html.escape(what)}</p>")
            else:
                parts.append(_operation(path, method, what))
    parts.append("<h1>Types</h1>")
    for name, schema in described["components"]["schemas"].items():
        parts.append(_schema(name, schema))
    body = "".join([*parts, "</main></html>"]).encode()
    return Response(body, content_type=b"text/html; charset=utf-8", headers=_PAGE_HEADERS)


def _operation(path: str, method: str, what: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td>{code}<td>{html.escape(answer['description'])}<td>{_shown_content(answer)}"
        for code, answer in what["responses"].items()
    ]
    body = what.get("requestBody")
    takes = f"<p>Takes {_shown_content(body)}.</p>" if body else ""
    return (
        f"<h2>{method.upper()} <code>{html.escape(path)}</code></h2>"
        f"<p>{html.escape(what['summary'])}</p>{takes}<table>{''.join(rows)}</table>"
    )


def _shown_content(what: Mapping[str, Any]) -> str:
    if "content" not in what:
        return "nothing"
    (content,) = what["content"].values()
    return _shown(content["schema"])


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        f"<tr><td><code>{html.escape(field)}</code><td>{_shown(kind)}"
        f"<td>{'required' if field in required else ''}"
        for field, kind in schema.get("properties", {}).items()
    ]
    text = html.escape(" ".join(schema.get("description", "").split()))
    return f"<h2 id={name}>{name}</h2><p>{text}</p><table>{''.join(rows)}</table>"


def _shown(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_shown(part) for part in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(html.escape(msgspec.json.encode(v).decode()) for v in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {_shown(schema.get('items', {}))}"
    text = schema.get("description") or schema.get("type", "anything")
    return html.escape(str(text))


_HEAD: Final = """<!doctype html><html lang=en><meta charset=utf-8><title>sandboxd-rest</title>
<meta name=viewport content="width=device-width">
<style>
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:0}
main{max-width:56rem;margin:auto;padding:1rem}
h2{margin:2rem 0 .5rem;font-size:1.15rem}
table{border-collapse:collapse;width:100%}
td{border-top:1px solid #8884;padding:.3rem .8rem .3rem 0;vertical-align:top}
code{font:.95em ui-monospace,monospace}
</style><main><h1>sandboxd-rest</h1>
<p>The same for programs: <a href="/openapi.json">/openapi.json</a>. Figures:
<a href="/metrics">/metrics</a>.</p>"""
