"""Which recordings may leave this machine: only those whose receipt proves that they are synthetic."""

from __future__ import annotations

from pathlib import Path

from clinical_asr.clips import Receipt
from clinical_asr.errors import AudioError
from clinical_asr.jsonl import read_rows

RECEIPTS = "receipts.jsonl"


class ProvedSynthetic:
    """``check(path, digest)`` passes for a clip that a receipt beside it was written for, byte for byte.

    Receipts of a folder are read once.
    """

    def __init__(self) -> None:
        self._books: dict[Path, dict[str, set[str]]] = {}

    def check(self, path: Path, digest: str) -> None:
        """``digest`` is the SHA-256 of the file's bytes. Raises AudioError: without proof it stays here."""
        mend = "only clips this project has spoken may leave; transcribe it with --model, or on 127.0.0.1"
        digests = self._book(path.parent).get(path.name)
        if digests is None:
            raise AudioError("has no synthesis receipt, so it may hold a patient's voice", str(path), mend)
        if digest not in digests:
            raise AudioError("is not the clip its synthesis receipt was written for", str(path), mend)

    def _book(self, folder: Path) -> dict[str, set[str]]:
        if folder not in self._books:
            book: dict[str, set[str]] = {}
            for name in (RECEIPTS, f"{RECEIPTS}.part"):
                for receipt in read_rows(folder / name, Receipt) if (folder / name).is_file() else ():
                    book.setdefault(receipt.audio_filepath, set()).add(receipt.audio_digest)
            self._books[folder] = book
        return self._books[folder]
