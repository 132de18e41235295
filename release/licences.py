"""The licence of everything that is shipped and of everything that it runs on, as `THIRD_PARTY_LICENCES.md`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import Distribution

from distribution import EXTRAS, ROOT, pins, runtime

TABLE = ROOT / "THIRD_PARTY_LICENCES.md"
SPELLINGS = {
    "apache license, version 2.0": "Apache-2.0", "apache-2.0 license": "Apache-2.0", "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0", "apache software license": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause", "bsd 3-clause license": "BSD-3-Clause",
    "bsd": "BSD", "bsd license": "BSD", "mit license": "MIT",
    "isc license": "ISC", "isc license (iscl)": "ISC",
    "gnu general public license (gpl)": "GPL-2.0-or-later",  # text-unidecode alone writes so, and says which beside it
    "gnu general public license v2 or later (gplv2+)": "GPL-2.0-or-later", "artistic license": "Artistic-1.0-Perl",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "python software foundation license": "PSF-2.0",
}  # fmt: skip
"""How authors write it -> SPDX; "BSD" stays where they do not say which."""
UNSAID = {("espeakng-loader", "0.2.4"): "GPL-3.0-or-later", ("torchao", "0.18.0"): "BSD-3-Clause"}
"""Packages whose metadata say nothing, with what is known of them; for this version only, so that it is read again."""
CARRIED = {
    "espeakng-loader": "that of the eSpeak NG library and voice data inside; its own few lines state none",
    "ray": "carries psutil and colorama (BSD-3-Clause), and gRPC",
    "soundfile": "carries libsndfile: LGPL-2.1-or-later",
    "soxr": "carries libsoxr",
    "torchao": "by the licence text inside; its wheel also installs its own tests, as a package named `test`",
    "text-unidecode": "a choice: we take the Artistic License",
}
"""What the licence in the metadata does not tell."""
ASK_BACK = ("GPL", "MPL", "EPL", "CDDL")
HEAD = f"""\
# Licences of what is shipped and of what it runs on

Written by `make licences` from the metadata of the pinned versions (Linux, CPU build of PyTorch); a test fails when a
package has no known licence or this page is behind. It is a help to distributors, not legal advice.

## Shipped in the wheel and the source archive

| part | licence |
|---|---|
| code, recipes, templates, term packs, `data/guard_sentences.txt`, `data/selection_sentences.txt` | Apache-2.0 |
| mini base, `models/mini-fastconformer-tdt.nemo` | Apache-2.0; the text it was trained on: `models/recipe/SOURCES.md` |
| `data/replay_sentences.txt` | excerpts under the licences of their sources: `models/recipe/SOURCES.md` |

No third-party code or library is inside either file; pip fetches it beside them.

## eSpeak NG: what its GPL means for you

The package `espeakng-loader` brings eSpeak NG (GPL-3.0-or-later) as a shared library, and the product loads it into its
own process to speak. Apache-2.0 code may be combined with GPL-3.0 code.

- **You use the product**, also inside a company: nothing is asked of you. Audio that eSpeak NG speaks is yours.
- **You pass on the wheel or the source archive**: neither holds anything of eSpeak NG, so Apache-2.0 is all there is.
- **You pass on both together** (a container image, an installer, a device): the whole is then under GPL-3.0 as far as
  eSpeak NG is part of it. Pass on its licence text, offer the source of the very version, and forbid nothing
  that the GPL allows. An image built from our `Dockerfile` is such a whole.
- **You do not want that**: leave `espeakng-loader` out of what you pass on and bring audio of your own
  (`clinical-asr cycle --manifest`), or speak with another engine. Evaluation and fine-tuning do not load it.

## What it runs on

The extras `{"`, `".join(sorted(EXTRAS))}` and all they pull in. A CUDA build of PyTorch adds NVIDIA's libraries
(`nvidia-*`), under NVIDIA's own terms: read those before you pass on an image that holds them.

"""


def licence(one: Distribution) -> str:
    """The licence of a distribution, as SPDX where its authors can be understood; empty if it is not known.

    A ``License-Expression`` counts most, then a short ``License``, then the classifiers.
    """
    if stated := _said(one, "License-Expression"):
        return stated
    lines = _said(one, "License").strip().splitlines()
    if lines and len(lines) == 1 and len(lines[0]) <= 60 and lines[0].upper() != "UNKNOWN":
        return _with_choice(one, spdx(lines[0]))
    return _classified(one) or _unsaid(one)


def _said(one: Distribution, key: str) -> str:
    return next(iter(one.metadata.get_all(key) or []), "")


def _with_choice(one: Distribution, stated: str) -> str:
    """A short licence, and the classifiers' where those name several: then there is a choice."""
    several = _classified(one)
    return several if " OR " in several and " OR " not in stated else stated


def _classified(one: Distribution) -> str:
    named = [line for line in one.metadata.get_all("Classifier") or [] if line.startswith("License :: ")]
    names = {spdx(line.rsplit(" :: ", 1)[1]) for line in named} - {"OSI Approved"}
    return " OR ".join(sorted(names))


def _unsaid(one: Distribution) -> str:
    return UNSAID.get((one.metadata["Name"].lower(), one.version), "")


def spdx(written: str) -> str:
    """An identifier for what an author wrote.

    >>> spdx("Apache 2.0"), spdx("MIT"), spdx("Our own terms")
    ('Apache-2.0', 'MIT', 'Our own terms')
    """
    return SPELLINGS.get(written.strip().lower(), written.strip())


def unknown(found: dict[str, Distribution]) -> list[str]:
    """Names without a known licence."""
    return [name for name, one in found.items() if not licence(one)]


def table(found: dict[str, Distribution]) -> str:
    """The whole page. Raises SystemExit for a licence that is not known."""
    if lost := unknown(found):
        raise SystemExit(f"no known licence: {', '.join(lost)}; read their sources, then add them to UNSAID")
    rows = [(name, one.version.split("+")[0], licence(one), CARRIED.get(name, "")) for name, one in found.items()]
    asking = [row for row in rows if any(word in row[2] + row[3] for word in ASK_BACK)]
    parts = ["### Asks for something back\n\n", _rows(asking), "\n### All\n\n", _rows(rows)]
    return HEAD + "".join(parts)


def _rows(rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| package | version | licence | note |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def main() -> int:
    """Exit 0 if the page is there and true."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["write", "check"])
    found = runtime()
    page = table(found)
    if parser.parse_args().action == "write":
        TABLE.write_text(page, encoding="utf-8")
    pinned = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    other = [f"{n} {d.version}" for n, d in found.items() if pinned.get(n) not in (d.version, d.version.split("+")[0])]
    if other:
        print(f"licences: not the pinned versions: {', '.join(other)}")
        return 1
    if TABLE.read_text(encoding="utf-8") != page:
        print(f"licences: {TABLE.name} is behind: make licences")
        return 1
    print(f"licences: {len(found)} packages, none unknown: {TABLE.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
