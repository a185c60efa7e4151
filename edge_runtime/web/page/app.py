"""PageApp: the local page as an ASGI application: who may see it, its frame, and its extensions' routes.

Shows nothing of its own; opens no socket (`web.server` does).
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, unquote, urlsplit

from edge_runtime.contract.errors import QuotaError, RefusedError, UnauthorizedError
from edge_runtime.web.access import Access
from edge_runtime.web.assets import KINDS
from edge_runtime.web.exchange import Exchange, Receive, Reply, Scope, Send, Stream
from edge_runtime.web.failures import no_such_path, other_method, reply_to
from edge_runtime.web.page.extension import PageExtension, Sheet, asset_way
from edge_runtime.web.page.frame import SAFE, framed, login_page
from edge_runtime.web.page.session import LIFETIME_S, Session, Sessions
from edge_runtime.web.routing_table import Table, Way
from edge_runtime.web.watch import Gone, Lookout

COOKIE = "edge_page"
LOGIN_COOKIE = "edge_page_login"
WORD = "x-page-word"
_FORM_BYTES = 4096
_BODY_S = 10.0
_LOGIN_S = 600

Noted = Callable[[str, str], None]
"""Told what somebody did, and from where: `login`, `login_failed`."""


class PageApp:
    """The page.

    Args:
        site: The store's name.
        extensions: Its pages; `/` leads to the first one.
        sessions: Who is logged in.
        access: By which names it may be called.
        secure: Whether cookies go over HTTPS only; they do where a request came over it.
        noted: Told of logins.
        clock: Seconds since 1970, UTC.
    """

    def __init__(
        self,
        site: str,
        extensions: Sequence[PageExtension],
        sessions: Sessions,
        access: Access,
        *,
        secure: bool = False,
        noted: Noted = lambda _act, _who: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._site = site
        self._extensions = tuple(extensions)
        self._sessions = sessions
        self._access = access
        self._secure = secure
        self._noted = noted
        self._clock = clock
        self._lookout = Lookout(_BODY_S)
        assets = [asset_way(f"/assets/{name}", "edge_runtime.web.assets", name) for name in KINDS]
        assets.append(asset_way("/assets/page.css", "edge_runtime.web.page", "static/page.css"))
        self._public = Table(
            [
                *assets,
                Way("GET", "/login", self._ask, "Ask for the password", "Page"),
                Way("POST", "/login", self._log_in, "Log in", "Page"),
            ]
        )
        self._table = Table([way for extension in extensions for way in extension.ways()])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection's event as ASGI says."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send, self._lookout)
        try:
            answer = await self._answer(exchange)
            if isinstance(answer, Stream):
                with exchange.watch():
                    await exchange.stream(answer)
                await exchange.end()
            else:
                fresh = {"cache-control": "no-store"}
                told = {**fresh, **answer.headers, **SAFE}
                await exchange.reply(Reply(answer.body, answer.status, answer.kind, told))
        except Gone:
            return

    async def _answer(self, exchange: Exchange) -> Reply | Stream:
        try:
            self._access.check_host(exchange.headers)
            found = self._public.find(exchange.method, exchange.path)
            if not isinstance(found, frozenset):
                return await found[0].handler(exchange)
            if found:
                return other_method(exchange.method, found)
            session = self._sessions.session(_cookie(exchange.headers, COOKIE), self._clock())
            if session is None:
                return self._away(exchange)
            return await self._page(exchange, session)
        except Gone:
            raise
        except Exception as error:  # noqa: BLE001 - the page is where every error ends
            return reply_to(error, openai=False)

    async def _page(self, exchange: Exchange, session: Session) -> Reply | Stream:
        if exchange.path == "/logout" and exchange.method == "POST":
            return await self._log_out(exchange, session)
        if exchange.method not in {"GET", "HEAD"}:
            _from_here(exchange.headers)
            self._check_word(exchange.headers.get(WORD, ""), session.nonce)
        if exchange.path == "/":
            return Reply(b"", 303, headers={"location": self._extensions[0].path})
        found = self._table.find(exchange.method, exchange.path)
        if isinstance(found, frozenset):
            return other_method(exchange.method, found) if found else no_such_path(exchange.path)
        way, names = found
        answer = await way.handler(exchange, *(unquote(name) for name in names))
        if isinstance(answer, Sheet):
            word = self._sessions.word(session.nonce)
            return framed(answer, self._site, self._extensions, word=word, logout=self._sessions.needed)
        return answer

    def _away(self, exchange: Exchange) -> Reply:
        """Send a person to the login, and a script away."""
        if exchange.method == "GET" and "text/html" in exchange.headers.get("accept", ""):
            return Reply(b"", 303, headers={"location": "/login"})
        return reply_to(UnauthorizedError("page", expected="a login", got="none"), openai=False)

    async def _ask(self, _: Exchange) -> Reply:
        return self._form("", 200) if self._sessions.needed else Reply(b"", 303, headers={"location": "/"})

    def _form(self, problem: str, status: int) -> Reply:
        nonce = secrets.token_urlsafe(16)
        page = login_page(self._site, self._sessions.word(f"login {nonce}"), problem, status)
        told = {"set-cookie": self._cookie(LOGIN_COOKIE, nonce, _LOGIN_S)}
        return Reply(page.body, status, page.kind, told)

    async def _log_in(self, exchange: Exchange) -> Reply:
        _from_here(exchange.headers)
        form = await _form_of(exchange)
        nonce = _cookie(exchange.headers, LOGIN_COOKIE)
        if not nonce or not self._sessions.fits(form.get("word", ""), f"login {nonce}"):
            return self._form("That page was too old. Please try again.", 400)
        try:
            session = await asyncio.to_thread(
                self._sessions.log_in, form.get("password", ""), exchange.client, self._clock()
            )
        except QuotaError as error:
            wait = f"Too many wrong passwords. Try again in {max(1, round(error.retry_after_s))} s."
            return self._form(wait, 429)
        except UnauthorizedError:
            self._noted("login_failed", exchange.client)
            return self._form("That is not the password.", 401)
        self._noted("login", exchange.client)
        cookie = self._cookie(COOKIE, self._sessions.cookie(session), int(LIFETIME_S))
        return Reply(b"", 303, headers={"location": "/", "set-cookie": cookie})

    async def _log_out(self, exchange: Exchange, session: Session) -> Reply:
        _from_here(exchange.headers)
        self._check_word((await _form_of(exchange)).get("word", ""), session.nonce)
        self._sessions.log_out(session, self._clock())
        return Reply(b"", 303, headers={"location": "/login", "set-cookie": self._cookie(COOKIE, "", 0)})

    def _check_word(self, word: str, nonce: str) -> None:
        if not self._sessions.fits(word, nonce):
            raise RefusedError(
                "request", expected="the word of its session", got="another or none", do="Load the page again"
            )

    def _cookie(self, name: str, value: str, lasts_s: int) -> str:
        secure = "; Secure" if self._secure else ""
        return f"{name}={value}; Path=/; Max-Age={lasts_s}; HttpOnly; SameSite=Strict{secure}"


def _from_here(headers: Mapping[str, str]) -> None:
    """Let no other site's page change something.

    Raises:
        RefusedError: One tries to.
    """
    site, origin = headers.get("sec-fetch-site", "same-origin"), headers.get("origin")
    if site not in {"same-origin", "none"}:
        raise RefusedError("request", expected="one of this page", got=f"one from a {site[:20]} page")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        raise RefusedError("header Origin", expected="this page's", got=repr(origin[:80]))


def _cookie(headers: Mapping[str, str], name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value


async def _form_of(exchange: Exchange) -> dict[str, str]:
    body = await exchange.body(_FORM_BYTES)
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
