from tools.commands_page import PAGE, page


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tools.commands_page"


def test_every_command_is_on_the_page_with_its_example() -> None:
    text = page()
    assert "## `dualtower init TABLES …`" in text
    assert "dualtower recommend bundle --query 17 --query 42 -n 10" in text
    assert "| `-n` | Items per query. Default: `100`. |" in text
