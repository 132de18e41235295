"""Foreign bytes into every reader: one line that says what and where, or a value; never a trace, a hang, a flood."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import hostile
from clinical_asr import intake
from clinical_asr.errors import FlywheelError, printable
from clinical_asr.intake import LONGEST_LINE
from clinical_asr.jsonl import read_csv, read_json, read_rows, write_csv
from clinical_asr.manifest import check
from clinical_asr.overrides import read_overrides
from clinical_asr.records import Hypothesis, Row, Term, Utterance
from clinical_asr.sentences import load_frames
from clinical_asr.terms import read_terms
from clinical_asr.transcripts import read_pairs, read_transcripts

ODD = st.sampled_from(
    [b"\xef\xbb\xbf", b"\r\n", b"\r", b"\0", b"\xff\xfe", b"NaN", b"-Infinity", b"1e999", b"\\ud800", b"\xed\xa0\x80",
     b"\x1b[2J",
     "\u202e\u0301\u200d".encode(), b"[" * 200, b"{" * 200, b'"', b"'", b",", b"=1+1", b"&a [*a]",
     b"!!python/name:os.system ", b"<![CDATA[",
     b"]]>", b"pipe:id|", b"../", b"/dev/zero", b"9" * 400, b"null", b"[[", b"/[/]",
     "ﷺ".encode() * 9, b"%s%n", b"${oc.env:HOME}"]
)  # fmt: skip


def broken(seed: bytes) -> st.SearchStrategy[bytes]:
    """A right file with odd things put into it, or cut, or doubled."""
    place = st.integers(0, len(seed))
    put = st.builds(lambda at, odd: seed[:at] + odd + seed[at:], place, ODD)
    cut = st.builds(lambda a, b: seed[: min(a, b)] + seed[max(a, b) :], place, place)
    flipped = st.builds(lambda at, bit: seed[:at] + bytes([seed[at] ^ bit]) + seed[at + 1 :],
                        st.integers(0, max(0, len(seed) - 1)), st.integers(1, 255)) if seed else put  # fmt: skip
    return st.one_of(put, cut, flipped, st.lists(ODD, max_size=6).map(b"".join), st.binary(max_size=200))


SLOW_ONES = {"manifest": 150, "nemo": 100, "recipe": 100, "frames": 100, "terms": 100}


@pytest.mark.parametrize("name", sorted(hostile.TARGETS))
def test_a_reader_answers_in_one_line_or_reads(name: str) -> None:
    seeds = hostile.SEEDS.get(name, (b"",))

    @settings(max_examples=SLOW_ONES.get(name, 120), deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.one_of([broken(seed) for seed in seeds]))
    @example(b"")
    @example(seeds[0])
    def attacked(content: bytes) -> None:
        hostile.attempt(hostile.TARGETS[name], content)

    attacked()


def test_every_seed_is_read_and_says_so() -> None:
    """Else the fuzzers would knock at a closed door."""
    for name in ("transcripts", "pairs", "terms", "overrides", "recipe", "respelling", "ipa", "ssml", "advice"):
        hostile.TARGETS[name](hostile.SEEDS[name][0])


# --- what is no file, or too much of one ------------------------------------------------------------------------------

READERS: dict[str, Callable[[Path], object]] = {
    "rows": lambda path: read_rows(path, Hypothesis),
    "document": lambda path: read_json(path),
    "terms": read_terms,
    "overrides": read_overrides,
    "transcripts": read_transcripts,
    "frames": load_frames,
    "text": lambda path: read_pairs(path, path),
    "manifest": lambda path: check(path).require(),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["fifo", "zero", "folder", "link to a device", "missing", "empty"])
def test_what_is_no_plain_file_is_refused_at_once(reader: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "given"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "zero":
        path = Path("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a device":
        path.symlink_to("/dev/urandom")
    elif kind == "empty":
        path.write_bytes(b"")
    start = time.process_time()
    if (reader, kind) in {("rows", "empty"), ("overrides", "missing")}:
        assert READERS[reader](path) == []
        return
    with pytest.raises(FlywheelError) as refusal:
        READERS[reader](path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
    assert time.process_time() - start < 2


def test_a_file_that_does_not_say_how_long_it_is_is_read_up_to_the_limit(tmp_path: Path) -> None:
    told = Path("/proc/self/status")
    if not told.is_file():
        pytest.skip("no file of this kind here")
    assert told.stat().st_size == 0 and intake.document(told).startswith(b"Name:")
    with pytest.raises(OSError, match="larger than 10 bytes"):
        intake.document(told, 10)


def open_files() -> int:
    """How many this process holds open (Linux; 0 elsewhere)."""
    held = Path("/proc/self/fd")
    return len(list(held.iterdir())) if held.is_dir() else 0


@pytest.mark.parametrize(("size", "fits"), [(0, True), (9, True), (10, True), (11, False)])
def test_a_document_may_be_as_large_as_the_limit(size: int, fits: bool, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(size))
    before = open_files()
    if fits:
        assert intake.document(path, 10) == bytes(size)
    else:
        with pytest.raises(OSError, match="larger than 10 bytes"):
            intake.document(path, 10)
    assert open_files() == before


HIGH_WATER = "int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
"""KiB; a child's ``ru_maxrss`` begins with what its parent had, this does not."""


def in_a_narrow_house(code: str, *arguments: str, mib: int = 400) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run Python with ``mib`` MiB of address space beyond what it needs to begin; (what it said, its peak in MiB)."""
    limited = (
        "import resource, sys\n"
        "import clinical_asr.cli, clinical_asr.manifest, clinical_asr.transcripts, clinical_asr.terms\n"
        "import clinical_asr.scores, clinical_asr.config, clinical_asr.overrides\n"
        "now = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (now + {mib} * 2**20,) * 2)\n"
        f"def peak(): return {HIGH_WATER}\nbefore = peak()\n" + code + "\nprint('PEAK', (peak() - before) / 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", limited, *arguments], capture_output=True, text=True, timeout=120)
    peak = float(done.stdout.rpartition("PEAK ")[2] or "nan") if "PEAK" in done.stdout else float("nan")
    return done, peak


REFUSED = "from clinical_asr.errors import FlywheelError\ntry:\n    {}\nexcept FlywheelError as e: print('REFUSED', e)"


@pytest.mark.parametrize(
    "call",
    ["from clinical_asr.manifest import check; check(Path(sys.argv[1])).require()",
     "from clinical_asr.transcripts import read_transcripts; read_transcripts(Path(sys.argv[1]))",
     "from clinical_asr.terms import read_terms; read_terms(Path(sys.argv[1]))",
     "from clinical_asr.overrides import read_overrides; read_overrides(Path(sys.argv[1]))"],
)  # fmt: skip
def test_a_line_of_a_gigabyte_is_refused_with_its_number_in_flat_memory(call: str, tmp_path: Path) -> None:
    path = tmp_path / "long"
    head = b"term,entity_category,ipa,verified_by,verified_at,notes\n" if "csv" in call or "terms" in call else b"\n"
    head = b"term,ipa,verified_by,verified_at,notes\n" if "overrides" in call else head
    path.write_bytes(head + b'{"text":"')
    os.truncate(path, 2**30)  # a hole: it takes no room on the disk
    done, peak = in_a_narrow_house("from pathlib import Path\n" + REFUSED.format(call), str(path))
    assert "REFUSED" in done.stdout and "line 2" in done.stdout, (done.stdout, done.stderr[-400:])
    assert peak < 80, f"{peak} MiB for a line of 1 GiB"


def test_a_million_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_bytes(b"term,entity_category," + b",".join(b"%x" % n for n in range(400_000)) + b"\n")
    call = "from clinical_asr.terms import read_terms; read_terms(Path(sys.argv[1]))"
    done, peak = in_a_narrow_house("from pathlib import Path\n" + REFUSED.format(call), str(path))
    assert "columns" in done.stdout and peak < 150, (done.stdout, done.stderr[-300:], peak)
    path.write_bytes(b"term,entity_category," + b",".join(b"%x" % n for n in range(1_000_000)) + b"\n")
    done, peak = in_a_narrow_house("from pathlib import Path\n" + REFUSED.format(call), str(path))
    assert "longer than" in done.stdout and peak < 80


def test_what_must_be_told_apart_in_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for line, why in (
        (b'{"id": "a", "id": "b"}', "stands twice"),
        (b'{"id": "a", "i\\u0064": "b"}', "stands twice"),
        (b'{"id": "a", "x": {"y": 1, "y": 2}}', "stands twice"),
        (b'{"id": "a", "x": ' + b"[" * 900 + b"]" * 900 + b"}", ""),
        (b'{"id": "a", "x": ' + b"[" * 50_000, "is not JSON"),
        (b'{"id": NaN}', "is not JSON"),
        (b'{"id": 1e999}', "is not JSON"),
        (b'{"id": "\\ud800"}', "is not JSON"),
        (b'\xef\xbb\xbf{"id": "a"}', "byte order mark"),
        (b'{"id": "a"}\0', "is not JSON"),
        ("{'id': 'ä'}".encode("latin-1"), "is not UTF-8"),
    ):
        path.write_bytes(b"\n" + line)
        if not why:
            assert read_rows(path, Row)
            continue
        with pytest.raises(FlywheelError, match=why) as refusal:
            read_rows(path, Utterance)
        assert "line 2" in str(refusal.value)
    path.write_bytes(b'{"x": "a \\": b", "y": {"z": 1}}\n')
    assert read_rows(path, Row)[0].extra == {"x": 'a ": b', "y": {"z": 1}}


def test_a_recipe_bomb_is_refused(tmp_path: Path) -> None:
    from clinical_asr.config import load_recipe

    aliases = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    aliases += "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    for text, why in (
        (aliases, "alias"),
        ("a: " + "[" * 5000, "nested deeper"),
        ("epochs: !!python/object/apply:os.system ['id']", "tag"),
        ("epochs: 1\nepochs: 2", "twice"),
        ("learning_rate: .nan", "learning_rate"), ("weight_decay: .inf", "weight_decay"),
        ("betas: [0.9, .nan]", "betas"), ("gradient_clip: -1", "gradient_clip"),
        ("epochs: 1" + "0" * 5000, "is not a recipe"),
        ("epochs: 99999999999", "epochs"), ("max_duration: .nan", "max_duration"), ("seed: -1", "seed"),
        ("epochs: 2026-13-45", "is not a recipe"), ("epochs: [1, 2]", "is not a recipe"), ("- a", "is not a recipe"),
        ("", "is not a recipe"), ("epochs: '3'", "is not a recipe"), ("? [a, b]\n: 1", "is not a recipe"),
        ("a" * 2**21, "cannot be read"), ("epochs: 1e3", "is not a recipe"), ("factors: [.nan]", "factors"),
    ):  # fmt: skip
        path = tmp_path / "r.yaml"
        path.write_text(text)
        with pytest.raises(FlywheelError, match=why) as refusal:
            load_recipe(str(path))
        assert "\n" not in str(refusal.value)


def test_a_long_term_is_no_flood(tmp_path: Path) -> None:
    """A term of 100,000 letters and a text of as many words: quadratic work would show."""
    from clinical_asr.scores import score
    from clinical_asr.ssml import ssml

    start, term = time.process_time(), "x" * 100_000
    path = tmp_path / "terms.csv"
    path.write_text(f"term,entity_category\n{term},drug\n")
    assert read_terms(path)[0].term == term
    assert ssml(f"give {term} now", {term: "x"}).count("phoneme") == 2
    hypothesis = Hypothesis(
        id="a", audio_filepath="", duration=1.0, text=f"give {term}", pred_text="give " + term[:-1], term=term
    )
    assert score([hypothesis])[0].tally.keywords.misses == 1
    assert time.process_time() - start < 20


# --- what a spreadsheet or a terminal would obey ----------------------------------------------------------------------


@given(
    st.lists(
        st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).map(str.strip), min_size=1, max_size=4
    )
)
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@example(['=HYPERLINK("http://x")', "+1", "-1+1|cmd", "@SUM(1)", "'=x", "''", "-", "-5"])
def test_no_cell_that_is_written_is_a_formula_and_all_come_back(notes: list[str]) -> None:
    path = hostile.folder() / "cells.csv"
    rows = [Term(term="a", entity_category="drug", extra={"notes": note}) for note in notes]  # type: ignore[arg-type]
    write_csv(path, rows, ("term", "entity_category", "notes"))
    import csv

    with path.open(newline="", encoding="utf-8") as file:
        for line in list(csv.reader(file))[1:]:
            assert not line[2].startswith(("=", "+", "-", "@")) or line[2].lstrip("+-").replace(".", "").isdigit()
    assert [row.extra["notes"] for row in read_csv(path, Term)] == [note.strip() for note in notes]


@given(st.text())
def test_nothing_that_is_shown_moves_the_cursor(text: str) -> None:
    shown = printable(text)
    assert not set(shown) & {chr(n) for n in (*range(32), *range(127, 160))}
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    shown.encode("utf-8")


EVIL = "\x1b]0;owned\x07\x1b[2J\u202e[bold]x[/nothing][/]"


@pytest.mark.parametrize("words", [("gate",), ("scores",), ("leaderboard",)])
def test_escapes_and_markup_in_data_do_not_reach_the_terminal(words: tuple[str, ...], tmp_path: Path) -> None:
    import msgspec

    rows = [{"id": f"{n}", "text": f"give {EVIL} heparin", "pred_text": f"give {EVIL} hepar",
             "term": "heparin", "audio_filepath": EVIL,
             "entity_category": "drug", "ipa_source": "g2p", "voice_id": EVIL,
             "noise_level": "clean", "context_type": EVIL, "duration": 1, "model": EVIL} for n in range(6)]  # fmt: skip
    path = tmp_path / "h.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    done = subprocess.run(
        [sys.executable, "-m", "clinical_asr", *words, str(path)], cwd=tmp_path, capture_output=True, timeout=60
    )
    told = (done.stdout + done.stderr).decode()
    assert "Traceback" not in told and "fault of the program" not in told, told
    assert not {"\x1b", "\x07", "\u202e"} & set(told) and done.returncode in (0, 2, 3), (done.returncode, told)


def test_names_that_are_no_text_are_shown_as_escapes(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/bad\xff\x1b[2J.jsonl"
    Path(os.fsdecode(name)).write_text("{}\n")
    for words in (["manifest", "check"], ["scores"], ["terms", "check"], ["inspect"]):
        done = subprocess.run([sys.executable, "-m", "clinical_asr", *words, name], capture_output=True, timeout=60)
        assert done.returncode == 2 and b"Traceback" not in done.stderr and b"\x1b" not in done.stderr, done
        assert b"fault of the program" not in done.stderr, done.stderr


def test_peak_is_measured_where_it_says() -> None:
    """The ruler itself: 200 MiB held are seen, 600 are refused."""
    done, peak = in_a_narrow_house("x = bytearray(b'x') * (200 * 2**20)")
    assert 190 < peak < 260 and done.returncode == 0
    assert "MemoryError" in in_a_narrow_house("x = bytearray(b'x') * (600 * 2**20)")[0].stderr
    assert resource.RLIMIT_AS >= 0 and LONGEST_LINE == 4 * 2**20


def test_a_size_of_hundreds_of_digits_is_no_size() -> None:
    from clinical_asr.architecture import architecture_of

    for size in (int("9" * 400), 2**53, -(10**400), float("inf"), float("nan")):
        config = {"target": "nemo.collections.asr.models.EncDecCTCModelBPE", "encoder": {"n_layers": size}}
        with pytest.raises(FlywheelError, match="no number"):
            architecture_of(config)
