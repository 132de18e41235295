"""What a base can spell: the pieces of its tokenizer, read out of the ``.nemo`` without torch or NeMo.

A character that no piece holds becomes the unknown token in training, and the model is taught to write nonsense there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clinical_asr.errors import ModelError
from clinical_asr.nemo_file import read_config

WORD_START = "▁"  # SentencePiece's mark of a space
_SPECIAL = re.compile(r"<[^<>]+>|\[[A-Z]+\]")
_BYTE = "<0x41>"  # a tokenizer with byte pieces can spell everything


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The pieces a base writes with."""

    pieces: frozenset[str]
    longest: int
    """Characters in the longest piece."""
    subword: bool
    """True for SentencePiece, False for a list of single characters."""

    @property
    def style(self) -> Literal["lower", "written"]:
        """``written`` if the base knows capitals, else ``lower``: what sentences for it must look like."""
        return "written" if any(piece != piece.lower() for piece in self.pieces) else "lower"

    def cannot_spell(self, text: str) -> str:
        """The characters of ``text`` that would become the unknown token, in their order, each once.

        ``text`` is taken as it stands: some tokenizers would first replace a ligature or a vulgar fraction, not all.

        >>> vocabulary_of(["▁", "a", "b", "▁ab", "c"]).cannot_spell("ab c-1")
        '-1'
        """
        if _BYTE in self.pieces:
            return ""
        unknown: dict[str, None] = {}
        for word in text.split() if self.subword else (text,):
            unknown.update(dict.fromkeys(self._unknown(f"{WORD_START}{word}" if self.subword else word)))
        return "".join(unknown).replace(WORD_START, "")

    def _unknown(self, word: str) -> list[str]:
        """The fewest characters that stand in no piece, whichever way ``word`` is cut."""
        best: list[list[str]] = [[]]
        for end in range(1, len(word) + 1):
            choices = [[*best[end - 1], word[end - 1]]]
            for start in range(max(0, end - self.longest), end):
                if word[start:end] in self.pieces:
                    choices.append(best[start])
            best.append(min(choices, key=len))
        return best[-1]


def vocabulary_of(pieces: Iterable[str]) -> Vocabulary:
    """A vocabulary from its pieces. ``<unk>`` and its like spell nothing."""
    known = frozenset(piece for piece in pieces if piece == _BYTE or not _SPECIAL.fullmatch(piece))
    return Vocabulary(known, max(map(len, known), default=0), any(WORD_START in piece for piece in known))


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a ``.nemo``, from its configuration. Raises ModelError if there is none in it."""
    config = read_config(path)
    sections = (config, config.get("decoder"), config.get("joint"), config.get("aux_ctc"))
    for section in sections:
        if isinstance(section, dict):
            listed = section.get("vocabulary") or section.get("labels")
            if isinstance(listed, list) and listed:
                return vocabulary_of(map(str, listed))
    raise ModelError("its configuration lists no vocabulary", str(path), "save the model again with a current NeMo")
