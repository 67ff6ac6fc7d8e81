from dualtower.config import RunConfig
from tools.configuration_page import PAGE, page


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tools.configuration_page"


def test_every_setting_is_on_the_page_with_its_default() -> None:
    text = page()
    for name, section in RunConfig.model_fields.items():
        assert f"## `[{name}]`" in text
        for setting in section.annotation.model_fields:  # type: ignore[union-attr]
            assert f"| `{setting}` |" in text
    assert (
        "| `test_days` | whole number, ≥ 1 | none | By time, instead of `test_start`: the test "
        "period is the last so many days. |" in text
    )
