"""Browsers sign in with a token and get a session, which is not the token."""

import re
from dataclasses import replace

import pytest

from reelseek.serving.tokens import Access, Tokens
from tests.serving.test_security import LOCAL, PUBLIC, TOKEN, WRITE_TOKEN, app_of, ask, code_of

HTML = {"Accept": "text/html,application/xhtml+xml"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def sign_in(app, token: str = TOKEN, *, target: str = "/", **options):
    return ask(app, "POST", "/login", data={"token": token, "next": target}, **options)


def cookie_of(response) -> str:
    return response.headers["set-cookie"].partition(";")[0]


def test_a_page_without_a_session_asks_for_the_token():
    response = ask(app_of(PUBLIC), path="/?q=a%20dog&level=moment", headers=HTML)
    assert response.status_code == 303
    assert response.headers["location"] == "/login?next=%2F%3Fq%3Da%2520dog%26level%3Dmoment"
    form = ask(app_of(PUBLIC), path=response.headers["location"], headers=HTML)
    assert form.status_code == 200
    assert 'value="/?q=a%20dog&amp;level=moment"' in form.text
    assert re.search(r'<input id="token" name="token" type="password"', form.text)
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=", form.text)


def test_the_api_gets_an_error_and_no_form():
    response = ask(app_of(PUBLIC), path="/api/search?q=x", headers=HTML)
    assert (response.status_code, code_of(response)) == (401, "token_needed")


@pytest.mark.parametrize(("token", "access"), [(TOKEN, Access.read), (WRITE_TOKEN, Access.write)])
def test_a_session_lets_the_page_in(token, access):
    app = app_of(PUBLIC)
    response = sign_in(app, token, target="/?q=dog")
    assert (response.status_code, response.headers["location"]) == (303, "/?q=dog")
    attributes = response.headers["set-cookie"].split("; ")[1:]
    assert attributes == ["Path=/", "Max-Age=604800", "HttpOnly", "SameSite=Strict"]
    assert token not in response.headers["set-cookie"]
    headers = {"Cookie": f"other=1; {cookie_of(response)}"}
    assert ask(app, headers=headers).json()["access"] == access
    # Another worker, or this one after a restart, knows it too.
    assert ask(app_of(PUBLIC), headers=headers).json()["access"] == access
    # With another token it has ended.
    changed = replace(PUBLIC, token="another-token-of-readers")
    assert ask(app_of(changed), headers=headers).status_code == 401


def test_over_tls_the_cookie_is_bound_to_it():
    app = app_of(PUBLIC)
    response = sign_in(app, url="https://localhost")
    assert response.headers["set-cookie"].startswith("__Host-reelseek_session=")
    assert response.headers["set-cookie"].endswith("; Secure")
    headers = {"Cookie": cookie_of(response)}
    assert ask(app, url="https://localhost", headers=headers).status_code == 200
    plain = {"Cookie": cookie_of(response).removeprefix("__Host-")}
    assert ask(app, url="https://localhost", headers=plain).status_code == 401


def test_wrong_tokens_get_the_form_again_and_then_nothing():
    app = app_of(PUBLIC)
    for _ in range(10):
        response = sign_in(app, "wrong")
        assert response.status_code == 401 and "set-cookie" not in response.headers
        assert "the token is wrong" in response.text
    response = sign_in(app, TOKEN)
    assert response.status_code == 429 and "retry-after" in response.headers


def test_sign_in_of_another_site_is_refused():
    response = sign_in(app_of(PUBLIC), headers={"Origin": "http://attacker.example"})
    assert (response.status_code, code_of(response)) == (403, "cross_site")


@pytest.mark.parametrize(
    "target",
    [
        "https://attacker.example/",
        "//attacker.example/",
        "/\\attacker.example",
        "javascript:alert(1)",
        "/login?next=/login",
        "/a\r\nSet-Cookie: x=y",
        "/é",
        "",
        "/" + "x" * 5000,
    ],
)
def test_signing_in_leads_nowhere_else(target):
    response = sign_in(app_of(PUBLIC), target=target)
    assert (response.status_code, response.headers["location"]) == (303, "/")
    assert len(response.headers.get_list("set-cookie")) == 1


def test_what_is_shown_is_escaped():
    response = ask(app_of(PUBLIC), path="/login?next=/%22><script>alert(1)</script>")
    assert "<script" not in response.text


def test_a_link_from_another_site_gets_its_session_in_a_second_step():
    app = app_of(PUBLIC)
    headers = {**HTML, "Sec-Fetch-Site": "cross-site"}
    response = ask(app, path="/?q=dog", headers=headers)
    assert response.status_code == 200
    assert '<meta http-equiv="refresh" content="0;url=/?q=dog">' in response.text


def test_signing_out_ends_the_cookie():
    response = ask(app_of(PUBLIC), "POST", "/logout")
    assert response.headers["set-cookie"].startswith("reelseek_session=; Path=/; Max-Age=0")
    assert ask(app_of(PUBLIC), "GET", "/logout").status_code == 405


@pytest.mark.parametrize("body", [b"", b"token", b"token=", b"\xff\xfe", b"a=1&" * 100, b"{}"])
def test_odd_forms_do_not_sign_in(body):
    response = ask(app_of(PUBLIC), "POST", "/login", content=body, headers=FORM)
    assert response.status_code == 401


def test_sessions_expire_and_cannot_be_forged():
    now = 1_000_000.0
    tokens = Tokens(TOKEN, WRITE_TOKEN, session_seconds=60, clock=lambda: now)
    session = tokens.new_session(Access.read)
    assert tokens.session_access(session) is Access.read
    claims, _, signature = session.rpartition(".")
    expires, access, nonce = claims.split(".")
    forged = [
        f"{int(expires) + 1}.{access}.{nonce}.{signature}",
        f"{expires}.2.{nonce}.{signature}",
        f"{claims}.{'0' * 64}",
        f"{claims}.",
        claims,
        "",
        "....",
        "é.é",
        Tokens("other", session_seconds=60, clock=lambda: now).new_session(Access.write),
    ]
    assert {tokens.session_access(each) for each in forged} == {Access.none}
    now += 59
    assert tokens.session_access(session) is Access.read
    now += 1
    assert tokens.session_access(session) is Access.none


def test_without_tokens_no_session_is_valid():
    tokens = Tokens(None)
    assert tokens.access_of("") is Access.none
    forged = Tokens(None).new_session(Access.write)
    assert tokens.session_access(forged) is Access.none
    assert (
        ask(app_of(LOCAL), headers={"Cookie": f"reelseek_session={forged}"}).json()["access"]
        == Access.read
    )


def test_several_cookies_of_our_name_do_not_lock_out():
    """A page at another port of this host may set cookies of our name."""
    app = app_of(PUBLIC)
    good = cookie_of(sign_in(app))
    headers = {"Cookie": f"reelseek_session=junk; {good}; reelseek_session=more"}
    assert ask(app, headers=headers).status_code == 200
