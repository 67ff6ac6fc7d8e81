import pytest

from dualtower.cli.common import print_table


def test_ids_and_texts_stand_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(1082185, "[red] ale [/b] :beer:", 1082185, 0.5, None, True)]
    print_table("", ["item", "name", "events", "score", "none", "seen"], rows, left=2)
    line = capsys.readouterr().out.splitlines()[-2]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == ["1082185", "[red] ale [/b] :beer:", "1,082,185", "0.5000", "", "yes"]
