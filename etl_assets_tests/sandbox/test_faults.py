"""Faults as a client meets them on a real connection."""

import http.client
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from etl_assets.sandbox.handle import Sandbox
from etl_assets_tests.sandbox.api import ACCOUNT, CALLER, Api

CLIENTS = f"{ACCOUNT}/clients"


def raw_get(api: Api, path: str = CLIENTS) -> socket.socket:
    """A socket on which a GET was sent."""
    url = urlsplit(api.env["TMETRIC_BASE_URL"])
    assert url.hostname
    assert url.port
    connection = socket.create_connection((url.hostname, url.port), timeout=10)
    token = api.env["TMETRIC_TOKEN"]
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    return connection


def everything(connection: socket.socket) -> list[bytes]:
    """What arrives until the other side closes, piece by piece."""
    with connection:
        return list(iter(lambda: connection.recv(65_536), b""))


def test_a_cut_answer_has_all_headers_and_the_first_bytes(api: Api, sandbox: Sandbox) -> None:
    whole = api.send("GET", "clients").content
    sandbox.fault(path="/clients", cut=17)
    head, body = b"".join(everything(raw_get(api))).split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"content-length: {len(whole)}".encode() in head
    assert body == whole[:17]
    assert sandbox.log("/clients")[-1]["bytes"] == 17


def test_a_client_notices_that_an_answer_was_cut(api: Api, sandbox: Sandbox) -> None:
    sandbox.fault(path="/clients", cut=10, times=2)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        api.get("clients")
    with raw_get(api) as connection, http.client.HTTPResponse(connection) as response:
        response.begin()
        with pytest.raises(http.client.IncompleteRead):
            response.read()


def test_a_large_answer_is_cut_exactly_where_asked(api: Api, sandbox: Sandbox) -> None:
    sandbox.fault(path="/tasks", cut=300_000)
    body = b"".join(everything(raw_get(api, f"{ACCOUNT}/tasks"))).split(b"\r\n\r\n", 1)[1]
    assert len(body) == 300_000


def test_a_reset_connection_gives_no_byte_at_all(api: Api, sandbox: Sandbox) -> None:
    sandbox.fault(path="/clients", reset=True)
    with raw_get(api) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    assert sandbox.log("/clients")[0]["status"] == 0
    assert api.get("clients")


@pytest.mark.parametrize(
    ("fault", "status", "body", "header"),
    [
        ({"status": 429, "headers": {"Retry-After": "7"}}, 429, "", ("retry-after", "7")),
        ({"status": 429}, 429, "", ("retry-after", None)),
        ({"status": 500, "body": "oops"}, 500, "oops", ("content-length", "4")),
        ({"status": 401, "body": {"message": "no"}}, 401, '{"message":"no"}', ("content-length", "16")),
        ({"empty": True}, 200, "", ("content-length", "0")),
        ({"body": "[{"}, 200, "[{", ("content-type", "application/json; charset=utf-8")),
        ({"headers": {"Content-Type": "text/csv"}, "body": "a,b"}, 200, "a,b", ("content-type", "text/csv")),
    ],
)
def test_an_answer_can_be_replaced(
    api: Api, sandbox: Sandbox, fault: dict[str, Any], status: int, body: str, header: tuple[str, str | None]
) -> None:
    sandbox.fault(path="/clients", **fault)
    response = api.send("GET", "clients")
    assert (response.status_code, response.text) == (status, body)
    assert response.headers.get(header[0]) == header[1]
    assert sandbox.log("/clients")[0]["status"] == status
    assert len(api.get("clients")) == 4


@pytest.mark.parametrize("status", [200, 503])
def test_a_web_page_can_come_instead_of_json(api: Api, sandbox: Sandbox, status: int) -> None:
    sandbox.fault(path="/clients", html=True, status=status)
    response = api.send("GET", "clients")
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html")
    assert response.text.startswith("<!DOCTYPE html>")


def test_a_dripping_answer_arrives_whole_in_many_pieces(api: Api, sandbox: Sandbox) -> None:
    whole = api.send("GET", "clients").content
    sandbox.fault(path="/clients", drip=0.01, chunk=100)
    connection = raw_get(api)
    arrived, pieces = b"", 0
    while not arrived.endswith(whole):
        arrived += connection.recv(65_536)
        pieces += 1
    connection.close()
    assert pieces > 2


def test_a_delayed_answer_is_the_normal_one(api: Api, sandbox: Sandbox) -> None:
    whole = api.get("clients")
    sandbox.fault(path="/clients", delay=0.02)
    assert api.get("clients") == whole


def test_a_client_that_gives_up_waiting_leaves_an_unanswered_request(api: Api, sandbox: Sandbox) -> None:
    sandbox.fault(path="/clients", delay=3600)
    raw_get(api).close()
    api.get("projects")
    assert [(row["path"], row["status"]) for row in sandbox.log()] == [
        (CLIENTS, 0),
        (f"{ACCOUNT}/projects", 200),
    ]


def test_a_delay_can_precede_another_fault(api: Api, sandbox: Sandbox) -> None:
    sandbox.fault(path="/clients", delay=0.02, status=503)
    assert api.status("clients") == 503


def test_a_fault_skips_and_repeats_as_told(api: Api, sandbox: Sandbox) -> None:
    sandbox.fault(path="/clients", status=500, skip=1, times=2)
    assert [api.status("clients") for _ in range(5)] == [200, 500, 500, 200, 200]
    assert [(fault["seen"], fault["fired"]) for fault in sandbox.faults()] == [(5, 2)]


def test_a_fault_can_last_until_it_is_cleared(api: Api, sandbox: Sandbox) -> None:
    sandbox.fault(path="/clients", status=500, times=-1)
    assert [api.status("clients") for _ in range(3)] == [500, 500, 500]
    sandbox.clear_faults()
    assert api.status("clients") == 200
    assert sandbox.faults() == []


def test_a_fault_hits_only_the_requests_it_describes(api: Api, sandbox: Sandbox) -> None:
    sandbox.fault(path="/timeentries", method="GET", query={"userId": CALLER}, status=500, times=-1)
    days = {"startDate": "2026-01-05", "endDate": "2026-01-05"}
    assert api.status("timeentries", userId=CALLER, **days) == 500
    assert api.status("timeentries", userId=CALLER + 6, **days) == 200
    assert api.status("clients") == 200
    assert api.send("POST", "timeentries", params={"userId": CALLER}, json={}).status_code == 200


def test_the_first_fault_that_matches_wins(api: Api, sandbox: Sandbox) -> None:
    first = sandbox.fault(path="/clients", status=500)
    second = sandbox.fault(status=502)
    assert first != second
    assert [api.status("clients") for _ in range(3)] == [500, 502, 200]


def test_a_refused_write_is_not_carried_out_but_a_lost_answer_is(api: Api, sandbox: Sandbox) -> None:
    body = {"startTime": "2026-01-05T20:00:00", "endTime": "2026-01-05T21:00:00"}
    before = len(api.entries(CALLER))
    sandbox.fault(method="POST", status=500)
    assert api.send("POST", "timeentries", json=body).status_code == 500
    assert len(api.entries(CALLER)) == before
    sandbox.fault(method="POST", reset=True, handled=True)
    with pytest.raises(requests.ConnectionError):
        api.send("POST", "timeentries", json=body)
    assert len(api.entries(CALLER)) == before + 1


def test_a_slow_answer_does_not_hold_up_others(api: Api, sandbox: Sandbox) -> None:
    sandbox.fault(path="/clients", delay=3600)
    with raw_get(api):
        assert [api.status("projects") for _ in range(5)] == [200] * 5
        assert [row["status"] for row in sandbox.log("/clients")] == [0]


def test_bodies_over_many_packets_are_read_whole(api: Api) -> None:
    note = "長" * 200_000
    body = {"startTime": "2026-01-05T20:00:00", "endTime": "2026-01-05T21:00:00", "note": note}
    assert api.send("POST", "timeentries", json=body).json()[0]["note"] == note
