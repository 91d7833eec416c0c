"""GET and POST /: what this proxy is, how to pull through it, and what it is doing now."""

from typing import Final
from urllib.parse import parse_qs, urlsplit

from flask import Blueprint, Response, g, render_template, request
from flask.blueprints import BlueprintSetupState
from jinja2 import StrictUndefined

from app.registries import DOCKER_HUB
from app.routes.context import may_see_figures, rooms
from app.routes.token import received
from app.version import VERSION
from app.web import assets, clients, setup, shown
from app.web.config import seen
from app.web.languages import CHOICE, LANGUAGES, Language, language
from app.web.proxy import Proxy
from app.web.readout import Readout
from app.web.rewriting import LONGEST, rewritten

bp = Blueprint("page", __name__, template_folder="templates")

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_LONGEST_FORM: Final = 4 * LONGEST
"""In bytes; more than LONGEST because a form may escape each byte as three."""
_YEAR: Final = 365 * 24 * 60 * 60


@bp.record_once
def _strict(state: BlueprintSetupState) -> None:
    environment = state.app.jinja_env
    environment.undefined = StrictUndefined
    environment.trim_blocks = environment.lstrip_blocks = True


@bp.get("/")
def page() -> Response:
    """Show the page with the query's `text` rewritten, so that a link can contain an image."""
    return _shown(request.args.get("text", ""))


@bp.post("/")
def form() -> Response:
    """Show the page with the box's text rewritten, for browsers that run no scripts."""
    request.max_content_length = _LONGEST_FORM
    fields = parse_qs(received().decode(errors="replace"))
    return _shown(fields.get("text", [""])[0])


def _shown(typed: str) -> Response:
    proxy, read = seen(), language()
    counted = rooms().figures
    typed = typed[:LONGEST].replace("\r\n", "\n")
    first = "" if typed.strip() else shown.example(proxy)
    done = rewritten(first or typed, proxy)
    response = Response(
        render_template(
            "page.html",
            proxy=proxy,
            root=f"{urlsplit(proxy.url).path}/",
            version=VERSION,
            language=read,
            languages=LANGUAGES.values(),
            text=read.text,
            asset=assets.address,
            with_own_marked=shown.with_own_marked,
            typed=first or typed,
            done=None if first else done,
            rewritten=shown.with_changes_marked(done),
            examples=shown.examples(proxy),
            another=shown.another(proxy),
            clients=clients.CLIENTS.values(),
            steps=setup.steps,
            figures=Readout(counted.shown(), read) if counted and may_see_figures() else None,
            searched=rooms().index is not None and proxy.default.name == DOCKER_HUB,
        ),
        content_type="text/html; charset=utf-8",
    )
    _secure(response)
    if not proxy.is_plain:
        # Over plain http, browsers ignore this header and log a warning.
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    _remember(response, read, proxy)
    return response


def _secure(response: Response) -> None:
    g.content_security_policy = POLICY
    response.headers.update({
        "Cache-Control": "private, no-cache",
        "Vary": "Accept-Language, Cookie",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    })  # fmt: skip


def _remember(response: Response, read: Language, proxy: Proxy) -> None:
    """Set the language cookie, only if the query of this request chose the language."""
    if request.args.get(CHOICE) == read.code:
        response.set_cookie(
            CHOICE,
            read.code,
            max_age=_YEAR,
            path=f"{urlsplit(proxy.url).path}/",
            secure=not proxy.is_plain,
            httponly=True,
            samesite="Lax",
        )
