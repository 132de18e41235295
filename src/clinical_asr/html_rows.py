"""Rows as the HTML report carries them: one compact record each, all systems' hearings side by side. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappush, heapreplace
from typing import Any
from urllib.parse import quote

import msgspec
from markupsafe import Markup

from clinical_asr.mishearings import ListedTerms, wordings
from clinical_asr.tally import Score
from clinical_asr.worddiff import word_diff

_OPERATIONS = {"hit": "=", "substitution": "s", "deletion": "d", "insertion": "i"}


class WorstRows:
    """At most ``most`` of the rows that pass, those with most missed terms and words, and how many passed.

    >>> worst = WorstRows(5)
    >>> list(worst.watch([])), worst.rows(), worst.total
    ([], [], 0)
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[int, float, str, int, Score]] = []
        self.total = 0

    def watch(self, rows: Iterable[Score]) -> Iterator[Score]:
        """The same rows."""
        for row in rows:
            entry = (row.tally.keywords.misses, row.tally.row_rates, row.id, self.total, row)
            if self.total < self._most:
                heappush(self._heap, entry)
            elif entry[:3] > self._heap[0][:3]:
                heapreplace(self._heap, entry)
            self.total += 1
            yield row

    def rows(self) -> list[Score]:
        """Those kept, in the order in which they came."""
        return [entry[-1] for entry in sorted(self._heap, key=lambda entry: entry[3])]


def worst_rows(sides: Sequence[Sequence[Score]], most: int) -> list[list[Score]]:
    """At most ``most`` rows of the first side, those with most missed terms and words over all sides, in its order."""
    if len(sides[0]) <= most:
        return [list(side) for side in sides]
    weight = dict.fromkeys((row.id for row in sides[0]), (0, 0.0))
    for side in sides:
        for row in side:
            if row.id in weight:
                misses, rate = weight[row.id]
                weight[row.id] = (misses + row.tally.keywords.misses, rate + row.tally.row_rates)
    chosen = set(sorted(weight, key=lambda row_id: (weight[row_id], row_id), reverse=True)[:most])
    return [[row for row in side if row.id in chosen] for side in sides]


def row_records(
    sides: Sequence[Sequence[Score]],
    normaliser: str,
    placed: Callable[[str], str] = str,
    listed: ListedTerms | None = None,
) -> list[dict[str, Any]]:
    """One record a row, in the first side's order; ``sides`` are one cycle, before and after, or several systems.

    A record holds what the row is about and, under ``sides``, for each the word diff and the counts. Rows that the
    first side lacks are left out; a side that lacks a row holds ``None`` in its place. ``listed`` are the terms of the
    whole board, where the rows are only some of it.
    """
    terms = ListedTerms(sides[0], normaliser) if listed is None else listed
    told = [{row.id: (row, said, heard) for row, said, heard in wordings(side, normaliser)} for side in sides]
    return [
        {
            **_about(row, terms.names.get(row.term, row.term), placed(row.audio_filepath)),
            "sides": [_side(rows[row.id], normaliser, terms) if row.id in rows else None for rows in told],
        }
        for row in sides[0]
    ]


def _about(row: Score, term: str, audio: str) -> dict[str, Any]:
    return {
        "id": row.id,
        "audio": audio_url(audio),
        "said": row.reference,
        "term": term,
        "written": row.term,
        "category": row.entity_category or "",
        "stratum": row.stratum or "",
        "noise": row.noise_level,
        "voice": row.voice_id,
        "context": row.context_type,
        "source": row.ipa_source.canonical if row.ipa_source else "",
    }


def _side(worded: tuple[Score, str, str], normaliser: str, listed: ListedTerms) -> dict[str, Any]:
    row, said, heard = worded
    words, keywords = row.tally.words, row.tally.keywords
    unsaid = [] if said is heard else listed.unsaid(said.split(), heard.split())
    return {
        "heard": row.hypothesis,
        "errors": words.errors,
        "words": words.length,
        "missed": keywords.misses,
        "occurrences": keywords.occurrences,
        "unsaid": unsaid,
        "diff": [[_OPERATIONS[s.operation], s.said, s.heard, s.mark] for s in word_diff(row, normaliser, unsaid)],
    }


def audio_url(path: str) -> str:
    """A path as a relative URL; nothing in it can be read as a scheme, a query or a fragment.

    >>> audio_url("audio/dose 5 #2.wav"), audio_url("/data/a.wav"), audio_url("javascript:alert(1)"), audio_url("")
    ('audio/dose%205%20%232.wav', 'file:///data/a.wav', 'javascript%3Aalert%281%29', '')
    >>> audio_url("//host/a.wav")
    'file:///host/a.wav'
    """
    forward = path.replace("\\", "/")
    if forward[1:3] == ":/" and forward[0].isalpha():  # C:/..., a path of another system
        return f"file:///{forward[0]}:{quote(forward[2:])}"
    return f"file:///{quote(forward.lstrip('/'))}" if forward.startswith("/") else quote(forward)


def embedded_json(value: Any) -> Markup:
    """JSON that can stand inside a script element: nothing in it can close the element or open a comment.

    >>> print(embedded_json(["</script><!--"]))
    ["\\u003c/script\\u003e\\u003c!--"]
    """
    text = msgspec.json.encode(value).decode("utf-8", "replace")
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
