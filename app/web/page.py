"""GET and POST /: what this proxy is, how to pull through it, and what it is doing now."""

from typing import Final
from urllib.parse import parse_qs, urlsplit

from flask import Blueprint, Response, render_template
from flask.blueprints import BlueprintSetupState
from jinja2 import StrictUndefined

from app.registries import DOCKER_HUB
from app.routes.context import RequestContext, get_context
from app.routes.status import may_see_figures
from app.routes.token import read_form
from app.version import VERSION
from app.web import assets, clients, setup, shown
from app.web.config import build_proxy
from app.web.languages import CHOICE, LANGUAGES, Language, choose_language
from app.web.proxy import Proxy
from app.web.readout import Readout
from app.web.rewriting import LONGEST, rewrite_text

bp = Blueprint("page", __name__, template_folder="templates")

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_LONGEST_FORM: Final = 4 * LONGEST
"""In bytes; more than LONGEST because a form may escape each byte as three."""
_YEAR: Final = 365 * 24 * 60 * 60


@bp.record_once
def _configure_jinja(state: BlueprintSetupState) -> None:
    environment = state.app.jinja_env
    environment.undefined = StrictUndefined
    environment.trim_blocks = environment.lstrip_blocks = True


@bp.get("/")
def page() -> Response:
    """Show the page with the query's `text` rewritten, so that a link can contain an image."""
    context = get_context()
    return _render_page(context, context.request.args.get("text", ""))


@bp.post("/")
def form() -> Response:
    """Show the page with the box's text rewritten, for browsers that run no scripts."""
    context = get_context()
    context.request.max_content_length = _LONGEST_FORM
    fields = parse_qs(read_form(context).decode(errors="replace"))
    return _render_page(context, fields.get("text", [""])[0])


def _render_page(context: RequestContext, typed: str) -> Response:
    proxy, language = build_proxy(context), choose_language()
    services = context.services
    figures_reader = services.figures
    typed = typed[:LONGEST].replace("\r\n", "\n")
    initial_text = "" if typed.strip() else shown.build_initial_text(proxy)
    rewriting = rewrite_text(initial_text or typed, proxy)
    response = Response(
        render_template(
            "page.html",
            proxy=proxy,
            root=f"{urlsplit(proxy.url).path}/",
            version=VERSION,
            language=language,
            languages=LANGUAGES.values(),
            text=language.text,
            asset=assets.build_url,
            with_own_marked=shown.mark_own_addresses,
            typed=initial_text or typed,
            done=None if initial_text else rewriting,
            rewritten=shown.mark_changes(rewriting),
            examples=shown.list_examples(proxy),
            another=shown.build_other_image(proxy),
            clients=clients.CLIENTS.values(),
            steps=setup.build_steps,
            figures=Readout(figures_reader.build_summary(), language)
            if figures_reader and may_see_figures(context)
            else None,
            searched=services.index is not None and proxy.default.name == DOCKER_HUB,
        ),
        content_type="text/html; charset=utf-8",
    )
    context.security_policy = POLICY
    _set_security_headers(response)
    if not proxy.is_plain:
        # Over plain http, browsers ignore this header and log a warning.
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    _set_language_cookie(context, response, language, proxy)
    return response


def _set_security_headers(response: Response) -> None:
    response.headers.update({
        "Cache-Control": "private, no-cache",
        "Vary": "Accept-Language, Cookie",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    })  # fmt: skip


def _set_language_cookie(
    context: RequestContext, response: Response, language: Language, proxy: Proxy
) -> None:
    """Set the language cookie, only if the query of this request chose the language."""
    if context.request.args.get(CHOICE) == language.code:
        response.set_cookie(
            CHOICE,
            language.code,
            max_age=_YEAR,
            path=f"{urlsplit(proxy.url).path}/",
            secure=not proxy.is_plain,
            httponly=True,
            samesite="Lax",
        )
