from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from raygym.gateway.admission import Waiting
from raygym.gateway.status import GatewayStatus, LeaseRow, StreamCounts
from raygym.gateway.status_page import STYLE_HASH, status_page
from tests.support.http_gateway import http_gateway

EMPTY = GatewayStatus(slots=4, used=0, starting=0, idle=0)
HOSTILE = '<script>alert("x")</script>'


class Words(HTMLParser):
    """Reads a page's tags and words, and that every tag is closed."""

    VOID = frozenset({"meta", "link", "br", "progress"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page(status: GatewayStatus) -> str:
    return status_page(status, [], now_s=0.0, up_s=7300.0)


def lease(client_id: str = "me") -> LeaseRow:
    return LeaseRow(
        lease_id="r-1:1",
        remote_id="r-1",
        env_id="flashgames.NeonRace-v0",
        mode="realtime",
        client_id=client_id,
        tenant="anna",
        age_s=400.0,
        node="node-1",
    )


def waiting(**more: object) -> Waiting:
    values: dict[str, object] = {
        "position": 1,
        "tenant": "bert",
        "client_id": "you",
        "what": "wob.*",
        "waited_s": 12.0,
        "is_over_quota": False,
        **more,
    }
    return Waiting(**values)  # type: ignore[arg-type]


def test_an_idle_gateway_says_so() -> None:
    words = Words(page(EMPTY)).words
    assert {"Nobody holds a remote.", "Nobody waits.", "There is none."} <= set(words)
    assert "up 2.0 h" in " ".join(words)


def test_leases_and_the_queue_are_listed() -> None:
    status = GatewayStatus(
        slots=1,
        used=1,
        starting=0,
        idle=0,
        leases=[lease()],
        waiting=[waiting(), waiting(position=2, is_over_quota=True)],
        refused={"quota": 3},
        streams=StreamCounts(open=1, opened=2, round_trips=4, round_trip_s=0.002),
    )
    words = Words(page(status)).words
    assert {"me", "anna", "flashgames.NeonRace-v0", "node-1", "7 min", "full"} <= set(words)
    assert {"you", "a slot", "its quota", "12 s", "Refused: quota", "0.50 ms"} <= set(words)


def test_a_node_of_ray_is_told_by_the_start_of_its_id() -> None:
    leases = [replace(lease(), node="0123456789" * 5 + "abcdef")]
    words = Words(page(replace(EMPTY, leases=leases))).words
    assert "01234567" in words


def test_what_clients_name_themselves_is_never_markup() -> None:
    status = GatewayStatus(
        slots=1,
        used=1,
        starting=0,
        idle=0,
        leases=[lease(HOSTILE)],
        waiting=[waiting(what=HOSTILE)],
    )
    text = page(status)
    assert "<script" not in text
    assert Words(text).words.count(HOSTILE) == 2


def test_many_rows_are_cut() -> None:
    status = GatewayStatus(
        slots=900, used=900, starting=0, idle=0, leases=[lease(f"c-{i}") for i in range(900)]
    )
    words = Words(page(status)).words
    assert "and 400 more" in words
    assert "c-499" in words
    assert "c-500" not in words


def test_the_policy_lets_the_page_have_its_own_style_and_no_script() -> None:
    with http_gateway() as gateway:
        gateway.allocate("me")
        answer = gateway.ask("GET", "/")
    assert f"style-src '{STYLE_HASH}'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    digest = hashlib.sha256(style.encode()).digest()
    assert base64.b64encode(digest).decode() == STYLE_HASH.removeprefix("sha256-")
    read = Words(answer.text)
    assert "script" not in read.tags
    assert re.search(r"a-[0-9a-f]{8}", answer.text)
    assert "color-scheme: light dark" in answer.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (7200, "2.0 h"), (2e5, "2 days")],
)
def test_durations_are_for_a_person(seconds: float, text: str) -> None:
    assert f"up {text}" in status_page(EMPTY, [], now_s=0.0, up_s=seconds)
