"""The page's frame: head, navigation and look around what a page shows. Knows no page.

Scripts and styles come from this origin alone, and browsers are told so.
"""

from collections.abc import Sequence

from edge_runtime.web.exchange import Reply
from edge_runtime.web.page.extension import HTML, PageExtension, Sheet, text

SAFE = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
        " connect-src 'self'; media-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with none, browsers hide the Origin of our own forms
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""Headers of every answer."""
_STYLES = ("/assets/look.css", "/assets/page.css")


def framed(sheet: Sheet, site: str, extensions: Sequence[PageExtension], *, word: str, logout: bool) -> Reply:
    """Put a sheet into the frame.

    Args:
        sheet: What is shown.
        site: The store.
        extensions: All pages, for the navigation.
        word: Of the session.
        logout: Whether one can log out.
    """
    links = "".join(
        f'<a href="{text(one.path)}"{_current(one, sheet)}>{text(one.title)}</a>' for one in extensions
    )
    form = (
        f'<form method="post" action="/logout" class="who">{word_field(word)}'
        '<button class="quiet">Log out</button></form>'
        if logout
        else ""
    )
    top = (
        f'<a class="skip" href="#main">Skip to content</a><header>'
        f'<p class="brand"><a href="/">{text(site)}</a></p><nav aria-label="Pages">{links}</nav>'
        f"{form}</header>"
        '<p id="stale" role="status" hidden>Not up to date: the store does not answer.</p>'
    )
    body = document(f"{sheet.title} – {site}", top, sheet.body, word=word, extra=sheet)
    return Reply(body, sheet.status, HTML, sheet.headers)


def login_page(site: str, word: str, problem: str, status: int) -> Reply:
    """Ask for the password.

    Args:
        site: The store.
        word: Of this form.
        problem: What was wrong; empty: nothing yet.
        status: Of HTTP.
    """
    said = f'<p class="problem" role="alert">{text(problem)}</p>' if problem else ""
    main = (
        f'<div class="narrow"><h1>{text(site)}</h1><form method="post" action="/login" class="card stacked">'
        f'{word_field(word)}{said}<input type="text" name="username" autocomplete="username"'
        f' value="{text(site)}" hidden><label for="password">Password</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password" required'
        ' maxlength="400" autofocus><p class="hint">It is <code>page.password</code> in the store’s'
        ' settings.</p><button class="primary">Log in</button></form></div>'
    )
    return Reply(document(f"Log in – {site}", "", main.encode()), status, HTML)


def word_field(word: str) -> str:
    """Give the hidden field that a form carries its session's word in."""
    return f'<input type="hidden" name="word" value="{text(word)}">'


def document(title: str, top: str, main: bytes, *, word: str = "", extra: Sheet | None = None) -> bytes:
    """Write an HTML document.

    Args:
        title: Plain text.
        top: HTML above `<main>`.
        main: HTML inside it.
        word: Of the session.
        extra: Whose styles and scripts are loaded, too; None: nobody's.
    """
    styles, scripts = ((), ()) if extra is None else (extra.styles, extra.scripts)
    links = "".join(f'<link rel="stylesheet" href="{text(path)}">' for path in (*_STYLES, *styles))
    modules = "".join(f'<script type="module" src="{text(path)}"></script>' for path in scripts)
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta name="page-word" content="{text(word)}"><title>{text(title)}</title>'
        f'<link rel="icon" href="data:,">{links}{modules}</head><body>{top}<main id="main" tabindex="-1">'
    )
    return head.encode() + main + b"</main></body></html>"


def _current(one: PageExtension, sheet: Sheet) -> str:
    return ' aria-current="page"' if one.title == sheet.title else ""
