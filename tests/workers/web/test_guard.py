"""Who may read and who may change, without any table."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from pipeline.errors import DataError
from workers.web import guard, serve
from workers.web.guard import Guard, Keys
from workers.web.views.unlock import own_page

TOKEN = "a-token-that-nobody-guesses"
HERE = "http://127.0.0.1:8765"
TOKEN_HEADER = {guard.HEADER: TOKEN}


def client(writes=True, **keys):
    def answer(request):
        return PlainTextResponse("through")

    every = ["GET", "POST", "PUT", "DELETE", "PATCH"]
    app = Starlette(
        routes=[Route("/{path:path}", answer, methods=every)],
        middleware=[Middleware(Guard, keys=Keys(TOKEN, **keys), writes=writes)],
    )
    return TestClient(app, base_url=HERE, follow_redirects=False)


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost", "[::1]:8765", "LOCALHOST:1"])
def test_reading_needs_no_token_under_the_names_of_this_machine(host):
    assert client().get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example:8765",
        "localhost@evil.example",
        "",
        "[::1",
        "0.0.0.0",
    ],
)
def test_a_name_that_leads_here_by_rebinding_is_refused(host):
    answer = client().get("/", headers={"host": host})
    assert answer.status_code == 421
    assert "127.0.0.1" in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": HERE}, 401),  # of this page, without the token
        ({"origin": HERE, guard.HEADER: "a-token"}, 401),
        ({"origin": HERE, guard.HEADER: ""}, 401),
        ({"origin": "http://evil.example", guard.HEADER: TOKEN}, 403),
        ({"origin": "http://127.0.0.1:9999", guard.HEADER: TOKEN}, 403),
        ({"origin": "null", guard.HEADER: TOKEN}, 403),
        ({}, 403),
        ({"origin": HERE, guard.HEADER: TOKEN}, 200),
        ({guard.HEADER: TOKEN}, 200),  # no browser: another site's page cannot set this header
    ],
)
def test_a_change_comes_from_here_with_the_token(method, headers, status):
    answer = client().request(method, "/api/x", content=b"{}", headers=headers)
    assert answer.status_code == status


def test_the_cookie_counts_only_together_with_an_origin():
    one = client()
    keys = Keys(TOKEN)
    one = client(session=keys.session)
    one.cookies.set("inception", keys.session)
    assert one.post("/api/x", content=b"{}").status_code == 403
    assert one.post("/api/x", content=b"{}", headers={"origin": HERE}).status_code == 200
    one.cookies.set("inception", TOKEN)  # the token itself is no session
    assert one.post("/api/x", content=b"{}", headers={"origin": HERE}).status_code == 401


def test_a_reader_changes_nothing_even_with_the_token():
    headers = {"origin": HERE, **TOKEN_HEADER}
    assert client(writes=False).post("/api/x", content=b"{}", headers=headers).status_code == 403


def test_elsewhere_reading_asks_for_the_token_too():
    one = client(reading=True)
    assert one.get("/api/x").status_code == 401
    page = one.get("/")
    assert (page.status_code, page.headers["location"]) == (303, "/unlock")
    assert one.get("/unlock").status_code == 200
    assert one.get("/", headers=TOKEN_HEADER).status_code == 200


def test_a_body_without_length_or_of_great_length_is_refused():
    headers = {"origin": HERE, **TOKEN_HEADER}
    assert client().post("/x", content=iter([b"{}"]), headers=headers).status_code == 413
    much = b"x" * (guard.MOST_BYTES + 1)
    assert client().post("/x", content=much, headers=headers).status_code == 413


def test_every_answer_forbids_scripts_frames_and_sources_of_others():
    for answer in (client().get("/"), client().get("/", headers={"host": "evil.example"})):
        policy = answer.headers.get("content-security-policy", "")
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "address", ["//evil.example", "http://evil.example", "/\\evil.example", "javascript:1", "x", ""]
)
def test_after_unlocking_one_stays_on_this_server(address):
    assert own_page(address) == "/"
    assert own_page("/loops/1/1/1/ab/field?x=1") == "/loops/1/1/1/ab/field?x=1"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "example.org"])
def test_other_addresses_are_refused_without_tls_or_proxy(host):
    with pytest.raises(DataError, match=r"--host.*others can reach.*--behind-proxy"):
        serve.serve(None, host=host)


def test_a_token_that_can_be_guessed_is_refused(monkeypatch):
    monkeypatch.setenv(serve.TOKEN, "secret")
    with pytest.raises(DataError, match="can be guessed"):
        serve._token()
    monkeypatch.delenv(serve.TOKEN)
    assert len({serve._token() for _ in range(20)}) == 20


def test_a_port_that_is_taken_is_one_line(monkeypatch):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DataError, match=r"cannot listen there.*--port") as error:
            serve.serve(None, port=port)
    assert "\n" not in str(error.value)
