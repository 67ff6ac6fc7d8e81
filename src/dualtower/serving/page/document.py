"""The page as one HTML document, and the policy that lets a browser run nothing else in it."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from starlette.responses import Response

_STYLE, _SCRIPT = "<style></style>", "<script></script>"


@cache
def page() -> tuple[str, dict[str, str]]:
    """The document with style and script inside, and the headers it is sent with.

    Its Content-Security-Policy names the hashes of that style and script; the browser refuses
    every other, and all addresses but this server's. Trusted Types make it refuse to read any
    text as HTML.
    """
    folder = files("dualtower.serving.page")
    html, style, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    document = html.replace(_STYLE, f"<style>{style}</style>")
    document = document.replace(_SCRIPT, f"<script>{script}</script>")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return document, headers


def page_response() -> Response:
    """The reply to GET /."""
    document, headers = page()
    return Response(document, headers=headers, media_type="text/html; charset=utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
