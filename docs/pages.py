"""Hooks of the site: pages that are files elsewhere in the checkout, and links that lead out of ``docs/``.

``{{ include: src/clinical_asr/recipes/README.md }}`` puts another Markdown file of the checkout in its place.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
INCLUDE = re.compile(r"^\{\{ include: (\S+) \}\}$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Pages that the navigation names and nobody has written yet are left out of it; any other fault stays one."""
    config["nav"] = _written(config["nav"], Path(config["docs_dir"]))
    return config


def _written(entries: list[Any], docs: Path) -> list[Any]:
    kept: list[Any] = []
    for entry in entries:
        if isinstance(entry, str):
            kept += [entry] if (docs / entry).is_file() else []
        else:
            kept.append({title: _written(inner, docs) for title, inner in entry.items()})
    return kept


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Includes, then links: one that leads out of ``docs/`` becomes a file's name, as a site has no checkout."""
    here = posixpath.dirname(f"docs/{page.file.src_uri}")
    for match in INCLUDE.finditer(markdown):
        source = match.group(1)
        text = (ROOT / source).read_text(encoding="utf-8")
        markdown = markdown.replace(match.group(0), local_links(text, posixpath.dirname(source), here))
    return local_links(markdown, here, here)


FROM_DISK = "javascripts/worker_from_disk.js"
ELSEWHERE_SHIM = "https://unpkg.com/iframe-worker/shim"
"""What the theme loads so that search works from disk; ours lies in ``docs/``."""


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """The page as written, with nothing in it that is loaded from elsewhere."""
    return output.replace(ELSEWHERE_SHIM, posixpath.relpath(FROM_DISK, posixpath.dirname(page.url) or "."))


def on_post_template(output_content: str, **_: Any) -> str:
    """The same for pages without a source, such as 404.html."""
    return output_content.replace(ELSEWHERE_SHIM, f"/{FROM_DISK}")


def local_links(markdown: str, base: str, here: str) -> str:
    """Links of a text that lay in folder ``base``, as a page in folder ``here`` needs them (both from the root).

    >>> local_links("[a](a.md) [b](../../models/card.md)", "docs/how-to", "docs/how-to")
    '[a](a.md) b (`models/card.md`)'
    >>> local_links("[lab notes](docs/lab-notes.md)", "", "docs/reference")
    '[lab notes](../lab-notes.md)'
    """

    def mended(match: re.Match[str]) -> str:
        label, path, anchor = match.groups()
        target = posixpath.normpath(posixpath.join(base, path))
        if not target.startswith("docs/"):
            known = ELSEWHERE.get(target)
            if known is None:
                return f"`{target}`" if "." in label or "/" in label else f"{label} (`{target}`)"
            target = known
        return f"[{label}]({posixpath.relpath(target, here)}{anchor or ''})"

    return LINK.sub(mended, markdown)


ELSEWHERE = {
    "CHANGELOG.md": "docs/reference/changelog.md",
    "README.md": "docs/index.md",
    "models/mini-fastconformer-tdt.md": "docs/reference/mini-base.md",
    "src/clinical_asr/recipes/README.md": "docs/reference/recipes.md",
}
"""Files outside ``docs/`` that have a page of their own."""
