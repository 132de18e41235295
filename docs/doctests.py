"""Docstrings as the site's Markdown wants them: examples in fences, roles of other markups as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*\n(?:.+(?:\n|\Z))*", re.MULTILINE)
ROLE = re.compile(r":\w+:`([^`]+)`")
LITERAL = re.compile(r"::\n\n((?: {4,}.*(?:\n|\Z)|\n)+)")


def as_markdown(text: str) -> str:
    """
    >>> print(as_markdown("See :func:`f`.\\n\\n>>> f(1)\\n2\\n"))
    See `f`.
    <BLANKLINE>
    ```pycon
    >>> f(1)
    2
    ```
    <BLANKLINE>
    """
    text = LITERAL.sub(lambda found: f":\n\n{found[1]}", ROLE.sub(r"`\1`", text))
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text)


class Examples(griffe.Extension):
    """Runs over every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring in place."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
