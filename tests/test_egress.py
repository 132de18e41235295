"""Nothing leaves unless the run names who may receive it; what leaves is written down."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinical_asr.egress import Egress, Sending, Service, is_local, parse_allowed
from clinical_asr.errors import ConfigError, FlywheelError
from clinical_asr.jsonl import read_rows


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "127.8.9.1:99", "::1", "[::1]", "[::1]:443"])
def test_this_machine(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    "host",
    ["", "example.org", "localhost.example.org", "localhost@example.org", "localhost:80@example.org",
     "127.0.0.1.example.org",
     "example.org/localhost", "[::1]@example.org", "10.0.0.1:443", "0.0.0.0", "[2001:db8::1]:443",
     "localhost:", "localhost:x",
     "127.0.0.1#x.org", "127.0.0.1 example.org", "169.254.169.254"],
)  # fmt: skip
def test_not_this_machine(host: str) -> None:
    assert not is_local(host)


@given(st.text(max_size=30))
def test_any_text_is_a_host_or_not(host: str) -> None:
    assert is_local(host) in (True, False)


def test_every_service_is_closed_until_it_is_named() -> None:
    for service in Service:
        with pytest.raises(FlywheelError, match=f"--allow {service.value}"):
            Egress(frozenset(Service) - {service}).require(service, "example.org")
        Egress(parse_allowed([service.value])).require(service, "example.org")
        Egress().require(service, "127.0.0.1:50051")
        assert len(Egress(frozenset({service})).disclosure()) == 1
    assert Egress().disclosure() == []
    with pytest.raises(ConfigError, match="one of nvcf"):
        parse_allowed(["nvcf", "NVCF"])


def test_what_leaves_is_written_down_and_what_stays_is_not(tmp_path: Path) -> None:
    egress = Egress(frozenset(Service), tmp_path / "egress.jsonl")
    egress.record(Service.NVCF, "127.0.0.1:1", "row", 5)
    assert not (tmp_path / "egress.jsonl").exists()
    egress.record(Service.NVCF, "grpc.example.org:443", "row", 5)
    egress.record(Service.MERRIAM_WEBSTER, "www.example.org", "heparin", 7)
    logged = read_rows(tmp_path / "egress.jsonl", Sending)
    assert [(s.service, s.host, s.subject, s.bytes) for s in logged] == [
        (Service.NVCF, "grpc.example.org:443", "row", 5),
        (Service.MERRIAM_WEBSTER, "www.example.org", "heparin", 7),
    ]
    assert all(s.at.endswith("+00:00") for s in logged)
