import base64
import hashlib
import re

from dualtower.serving.page.document import page, page_response


def test_one_document_that_names_nothing_outside_itself() -> None:
    document, _ = page()
    assert document.count("<script>") == document.count("<style>") == 1
    assert not re.search(r"""(src|href)=["'](?!data:,)""", document)
    assert not re.search(r"https?://|@import|url\(", document)
    assert " style=" not in document
    assert not re.search(r"\son\w+=", document)


def test_the_policy_allows_this_script_and_style_alone() -> None:
    document, headers = page()
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("script", "style"):
        found = re.search(f"<{name}>(.*?)</{name}>", document, re.DOTALL)
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_no_text_becomes_html() -> None:
    document, headers = page()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in document
    assert "require-trusted-types-for 'script'" in headers["content-security-policy"]


def test_the_reply() -> None:
    reply = page_response()
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert bytes(reply.body).startswith(b"<!doctype html>")
