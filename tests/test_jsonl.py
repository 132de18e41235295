"""Files of rows: round trips, crashes in the middle of a line, atomic names, errors that name the place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from board import utterance
from clinical_asr.errors import ManifestError
from clinical_asr.jsonl import (
    RowWriter,
    atomic_path,
    from_dict,
    read_csv,
    read_json,
    read_rows,
    to_dict,
    write_csv,
    write_json,
    write_rows,
)  # fmt: skip
from clinical_asr.records import ClinicalUtterance, LedgerEntry, Outcome, Term


def entry(n: int) -> LedgerEntry:
    return LedgerEntry(id=f"r{n}", outcome=Outcome.SCORED)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
known = {field.name for field in msgspec.structs.fields(ClinicalUtterance)}


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda name: name not in known), json_values, max_size=4),
    st.text(),
)
def test_unknown_fields_and_any_text_survive_a_round_trip(extra: dict[str, object], text: str) -> None:
    row = msgspec.structs.replace(utterance("a", text=text), extra=extra)
    line = msgspec.json.encode(to_dict(row))
    assert b"\n" not in line
    assert from_dict(ClinicalUtterance, msgspec.json.decode(line)) == row


def test_a_source_is_written_back_as_it_was_read(tmp_path: Path) -> None:
    fields = to_dict(utterance("a")) | {"ipa_source": "magpie_g2p", "ward": "4B"}
    row = from_dict(ClinicalUtterance, fields)
    write_rows(tmp_path / "m.jsonl", [row])
    assert read_json(tmp_path / "m.jsonl") == fields
    assert row.ipa_source.canonical == "g2p"


@pytest.mark.parametrize("cut", [1, 10, 25])
def test_a_crash_in_the_middle_of_a_line_loses_only_that_line(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.jsonl"
    with RowWriter(path, LedgerEntry) as writer:
        writer.write([entry(n) for n in range(3)])
    part = path.with_name("x.jsonl.part")
    part.write_bytes(part.read_bytes()[:-cut])
    with RowWriter(path, LedgerEntry) as writer:
        assert writer.known == {"r0", "r1"}
        writer.write([entry(2)])
        writer.finish()
    assert read_rows(path, LedgerEntry) == [entry(n) for n in range(3)]
    assert not part.exists()


def test_an_unfinished_file_has_no_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with pytest.raises(RuntimeError), RowWriter(path, LedgerEntry) as writer:
        writer.write([entry(0)])
        raise RuntimeError
    assert not path.exists()


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic_path(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"id": "a"}\n', r"x\.jsonl line 1.*outcome"),
        (b'\n\n{"id": "a", "outcome": "lost"}\n', r"line 3, outcome"),
        (b"{nonsense}\n", r"line 1: is not JSON"),
        (b"[1]\n", r"line 1: is not a JSON object"),
        (b'{"id": "a", "outcome": "scored"}\n\xff\n', r"line [12]: is not UTF-8"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(ManifestError, match=why):
        read_rows(tmp_path / "x.jsonl", LedgerEntry)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        read_rows(tmp_path / "none.jsonl", LedgerEntry)


def test_csv_rows_keep_their_columns_and_name_a_wrong_category(tmp_path: Path) -> None:
    path = tmp_path / "terms.csv"
    write_csv(path, [Term(term='a "quoted", term', entity_category="drug", extra={"variants": "b"})],
              ["term", "entity_category", "variants"])  # fmt: skip
    (found,) = read_csv(path, Term, ["term", "entity_category"])
    assert (found.term, found.extra) == ('a "quoted", term', {"variants": "b"})
    path.write_text("term,entity_category\nheparin,food\n")
    with pytest.raises(ManifestError, match=r"line 2, entity_category: .*use one of: drug"):
        read_csv(path, Term)
    path.write_text("term\nheparin\n")
    with pytest.raises(ManifestError, match="column is missing"):
        read_csv(path, Term, ["term", "entity_category"])


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path) -> None:
    """SIGKILL in the middle of a write runs no clean-up: the same write again must leave nothing behind."""
    code = (
        "import os, signal; from pathlib import Path; from clinical_asr.jsonl import atomic_path\n"
        f"with atomic_path(Path({str(tmp_path / 'clip.wav')!r})) as part:\n"
        "    part.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.wav.new.part"]
    with atomic_path(tmp_path / "clip.wav") as part:
        part.write_bytes(b"whole")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("clip.wav", b"whole")]


FULL = """
import resource, signal, sys
from pathlib import Path
from clinical_asr.jsonl import append_csv, append_row
from clinical_asr.overrides import COLUMNS, Override
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
row = Override(term="heparin", ipa="x" * 60, verified_by="me", verified_at="2026-01-02")
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, resource.RLIM_INFINITY))
try:
    append_csv(path, row, COLUMNS) if path.suffix == ".csv" else append_row(path, row)
except OSError as error:
    print(error.filename)
"""


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl"])
def test_a_line_that_does_not_fit_on_the_disk_leaves_the_file_as_it_was(name: str, tmp_path: Path) -> None:
    """The file may grow by 20 bytes: the system writes as much and refuses the rest."""
    path = tmp_path / name
    path.write_text("term,ipa,verified_by,verified_at,notes\n")
    before = path.read_bytes()
    ran = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, timeout=60)
    assert ran.stdout.strip() == str(path), ran
    assert path.read_bytes() == before


def test_a_folder_in_the_place_of_a_file_is_named_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(IsADirectoryError) as refused:
        write_rows(tmp_path / "out", [entry(1)])
    assert refused.value.filename == str(tmp_path / "out") and list(tmp_path.iterdir()) == [tmp_path / "out"]
