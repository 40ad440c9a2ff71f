"""Plain data out of a text in Python's or JSON's notation. The text is parsed, never evaluated."""

from __future__ import annotations

import ast
import warnings
from typing import Any

from ..errors import UsageError

MAX_CHARACTERS = 1_000_000
_JSON_NAMES = {"true": True, "false": False, "null": None}


class Entry(dict[str, Any]):
    """A dictionary that knows the line on which it begins."""

    line = 0


def parse(text: str, source: str) -> Any:
    """Return the lists, `Entry` dictionaries, strings, numbers and truth values of a text.

    Raises:
        UsageError: the text is malformed, or holds anything else, such as a name, a call or an
            operation; the message names the place.
    """
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"{source}: {len(text):,} characters are no structure text.")
    body = text.lstrip()  # an expression may not be indented
    skipped = text[: len(text) - len(body)].count("\n")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about code such as `1()`, which is refused below
            tree = ast.increment_lineno(ast.parse(body, mode="eval"), skipped)
        return _data(tree.body, source)
    except SyntaxError as error:
        line = (error.lineno or 1) + skipped
        raise UsageError(f"{source}, line {line}, column {error.offset}: {error.msg}.") from None
    except ValueError as error:
        raise UsageError(f"{source}: {error}.") from None
    except (RecursionError, MemoryError):
        raise UsageError(f"{source}: nested too deeply.") from None


def _data(node: ast.expr, source: str) -> Any:
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.Name(id=name) if name in _JSON_NAMES:
            return _JSON_NAMES[name]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_data(element, source) for element in elements]
        case ast.Dict(keys=keys, values=values):
            return _entry(node, keys, values, source)
    place = f"{source}, line {node.lineno}, column {node.col_offset + 1}"
    excerpt = ast.unparse(node)
    raise UsageError(
        f"{place}: '{excerpt[:40]}{'...' if len(excerpt) > 40 else ''}' is code or not plain data; "
        "a structure text holds lists, dictionaries, strings and numbers, and is never evaluated."
    )


def _entry(
    node: ast.expr, keys: list[ast.expr | None], values: list[ast.expr], source: str
) -> Entry:
    entry = Entry()
    entry.line = node.lineno
    for key, value in zip(keys, values, strict=True):
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            where = key or value
            raise UsageError(f"{source}, line {where.lineno}: a key must be a quoted word.")
        if key.value in entry:
            raise UsageError(f"{source}, line {key.lineno}: '{key.value}' is given twice.")
        entry[key.value] = _data(value, source)
    return entry
