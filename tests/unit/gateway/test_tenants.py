from __future__ import annotations

import hmac
import pickle
from pathlib import Path

import pytest

from raygym.errors import ConfigError
from raygym.gateway.tenants import ANYBODY, Entry, Tenant, Tenants, digest_of

ANNA, BEN = "annas-token-0123456789", "bens-token-0123456789"


def write(directory: Path, text: str, *, mode: int = 0o600) -> Path:
    path = directory / "tenants.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def both(tmp_path: Path) -> Tenants:
    text = (
        f"tenants:\n- {{name: anna, token: {ANNA}, quota: 4, queue: 9}}\n"
        f"- {{name: ben, token_sha256: {digest_of(BEN)}}}\n"
    )
    return Tenants.of_file(write(tmp_path, text))


def test_a_token_leads_to_its_tenant_and_quota(both: Tenants) -> None:
    assert both.of_token(ANNA) == Tenant(name="anna", quota=4, queue=9)
    assert both.of_token(BEN) == Tenant(name="ben")


@pytest.mark.parametrize("token", [None, "", "wrong", ANNA[:-1], ANNA + "x", "\udcff", "é"])
def test_any_other_token_is_nobodys(both: Tenants, token: str | None) -> None:
    assert both.of_token(token) is None


def test_a_digest_does_not_pass_for_the_token(both: Tenants) -> None:
    assert both.of_token(digest_of(BEN)) is None


def test_every_digest_is_compared_in_constant_time_also_after_a_match(
    both: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, really = [], hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return really(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert both.of_token(ANNA) is not None
    assert len(compared) == 2


def test_no_token_stands_in_a_pickle_or_a_repr(both: Tenants) -> None:
    assert ANNA.encode() not in pickle.dumps(both)
    assert ANNA not in repr(vars(both))


def test_whoever_comes_to_an_open_gateway_is_anybody_but_not_with_a_wrong_token() -> None:
    tenants = Tenants(is_open=True)
    assert tenants.of_token(None) == ANYBODY
    assert tenants.of_token("some-token-of-somebody") is None


class TestCertificates:
    def test_without_entries_any_good_certificate_is_a_tenant_by_its_first_name(self) -> None:
        tenants = Tenants(takes_certificates=True, certificate_quota=2)
        assert tenants.of_certificate(["lab", "lab.example"]) == Tenant(name="lab", quota=2)

    def test_with_entries_only_the_names_in_them_are_let_in(self) -> None:
        entry = Entry(tenant=Tenant(name="lab", quota=3), certificate="lab.example")
        tenants = Tenants([entry], takes_certificates=True)
        assert tenants.of_certificate(["x", "lab.example"]) == Tenant(name="lab", quota=3)
        assert tenants.of_certificate(["lab"]) is None

    def test_a_tenant_with_a_quota_cannot_leave_its_token_out_to_be_rid_of_it(self) -> None:
        entry = Entry(tenant=Tenant(name="anna", quota=1), token_sha256=digest_of(ANNA))
        assert Tenants([entry], takes_certificates=True).of_certificate(["client"]) is None

    def test_no_name_and_one_that_would_break_a_line_of_a_log_are_nobody(self) -> None:
        tenants = Tenants(takes_certificates=True)
        assert tenants.of_certificate([]) is None
        assert tenants.of_certificate(["a\nb"]) is None

    def test_where_none_are_asked_for_none_count(self) -> None:
        assert Tenants(is_open=True).of_certificate(["lab"]) is None


class TestFile:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "expected `tenants:`"),
            ("tenants: []", "expected `tenants:`"),
            ("tenants: [3]", "expected `tenants:`"),
            ("tenants: [", "cannot be read as YAML"),
            ("tenants: [{token: abcdefghijklmnopq}]", "name: expected"),
            ("tenants: [{name: 'a b', token: abcdefghijklmnopq}]", "name: expected"),
            ("tenants: [{name: a}]", "expected a token, a token_sha256 or a certificate"),
            ("tenants: [{name: a, token: short}]", "16 to 1024 printable"),
            ("tenants: [{name: a, token: 12345678901234567}]", "quotation marks"),
            ("tenants: [{name: a, token_sha256: abc}]", "64 hexadecimal digits"),
            ("tenants: [{name: a, token: abcdefghijklmnopq, quota: 0}]", "quota: expected 1"),
            ("tenants: [{name: a, token: abcdefghijklmnopq, quota: true}]", "quota: expected 1"),
            ("tenants: [{name: a, token: abcdefghijklmnopq, queue: -1}]", "queue: expected 0"),
            ("tenants: [{name: a, token: abcdefghijklmnopq, qouta: 1}]", "no 'qouta'"),
            ("tenants: [{name: a, certificate: a.example}]", "no tenant has a token"),
        ],
    )
    def test_what_makes_no_sense_is_refused_with_the_file_and_the_field(
        self, tmp_path: Path, text: str, said: str
    ) -> None:
        path = write(tmp_path, text)
        with pytest.raises(ConfigError, match=said) as caught:
            Tenants.of_file(path)
        assert str(path) in caught.value.message

    def test_no_message_quotes_a_token(self, tmp_path: Path) -> None:
        for text in (f"tenants: [{{name: a, token: '{ANNA} x'}}]", f"tenants: [{{{ANNA}: ["):
            with pytest.raises(ConfigError) as caught:
                Tenants.of_file(write(tmp_path, text))
            assert ANNA not in caught.value.message

    def test_tokens_that_others_may_read_are_refused(self, tmp_path: Path) -> None:
        text = f"tenants: [{{name: a, token: {ANNA}}}]"
        with pytest.raises(ConfigError, match="chmod 600"):
            Tenants.of_file(write(tmp_path, text, mode=0o640))

    def test_digests_may_be_read_by_others(self, tmp_path: Path) -> None:
        text = f"tenants: [{{name: a, token_sha256: {digest_of(ANNA)}}}]"
        assert Tenants.of_file(write(tmp_path, text, mode=0o644)).of_token(ANNA) is not None

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            Tenants.of_file(tmp_path / "absent.yaml")

    @pytest.mark.parametrize("what", ["name", "token"])
    def test_two_tenants_need_two_names_and_two_tokens(self, tmp_path: Path, what: str) -> None:
        other = {"name": f"a, token: {BEN}", "token": f"b, token: {ANNA}"}[what]
        text = f"tenants: [{{name: a, token: {ANNA}}}, {{name: {other}}}]"
        with pytest.raises(ConfigError, match=f"as {what}"):
            Tenants.of_file(write(tmp_path, text))
