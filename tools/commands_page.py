"""Write docs/commands.md from the commands' own help.

python -m tools.commands_page
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from dualtower.cli import app

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"

_INTRODUCTION = """\
# Commands

<!-- Written by `python -m tools.commands_page`; change the help in dualtower/cli instead. -->

Results go to standard output, notes and progress bars to standard error, so a result can be piped
into another program; with `--json` it is JSON and nothing else. Exit status: 0 done, 2 for input
that is not as it should be (the message says what and how to mend it), 1 where the machine refused
to read or write. Each command is one function call from Python; [architecture.md](architecture.md)
says where.
"""


def page() -> str:
    """The page as it should be."""
    return "\n".join([_INTRODUCTION, *_sections(typer.main.get_command(app), "dualtower")])


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command below `command` with its full name, groups left out."""
    if hasattr(command, "commands"):
        for part, inner in command.commands.items():
            yield from commands(inner, f"{name} {part}")
    else:
        yield name, command


def _sections(root: Any, program: str) -> Iterator[str]:
    for name, command in commands(root, program):
        arguments = [part for part in command.params if part.param_type_name == "argument"]
        usage = " ".join([name, *(_placeholder(part) for part in arguments)])
        example = command.epilog.removeprefix("Example: ")
        yield f"## `{usage}`\n\n{' '.join(command.help.split())}\n\n```\n{example}\n```\n"
        yield "| | what it is |\n| --- | --- |"
        for part in command.params:
            if part.name != "help":
                yield _row(part)
        yield ""


def _placeholder(argument: Any) -> str:
    return f"{argument.name.upper()} …" if argument.nargs == -1 else str(argument.name.upper())


def _row(part: Any) -> str:
    if part.param_type_name == "argument":
        name = f"`{_placeholder(part)}`"
    else:
        name = ", ".join(f"`{option}`" for option in [*part.opts, *part.secondary_opts])
    text = (part.help or "").replace("|", "\\|")
    if part.default not in (None, False, (), []) and part.show_default:
        text += f" Default: `{part.default}`."
    return f"| {name} | {text} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
