"""Write docs/configuration.md from the configuration's own classes.

python -m tools.configuration_page
"""

import ast
import inspect
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dualtower.config import ModelConfig, RunConfig, TrainingConfig
from dualtower.schema import Feature

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"

_INTRODUCTION = """\
# Configuration

<!-- Written by `python -m tools.configuration_page`; change the classes in config.py instead. -->

A run is one TOML file. `dualtower init YOUR_TABLES` writes one that runs as it is; what it leaves
out has the default below. Relative paths are relative to the file. From Python,
`dt.load_config("dualtower.toml")` reads it, and `dt.DAT(preset="recommended", output_dim=64)` takes
the model's settings by name.

A shortest file:

```toml
[data]
interactions = "events.parquet"

[columns]
query_id = "customer"
item_id = "product"
timestamp = "bought_at"
```
"""

_PRESETS = """\
`preset = "paper"` under `[model]` sets the model and the training to the paper's letter; any
setting can still be named beside it. Figure 2's augmented dimension is `augmented_dim`: it is
independent of `output_dim`, and where the two differ the vectors mimic a fixed projection of the
other tower's output.
"""


def page() -> str:
    """The page as it should be."""
    parts = [_INTRODUCTION]
    for name, field in RunConfig.model_fields.items():
        section = field.annotation
        if not (inspect.isclass(section) and issubclass(section, BaseModel)):
            raise TypeError(f"{name}: a section of the configuration must be a pydantic class")
        parts.append(f"## `[{name}]`\n\n{_first_paragraph(section)}\n")
        if name == "model":
            parts.append(_PRESETS)
        parts.append(_table(section))
        if name == "columns":
            parts.append(
                "Each feature is a table of its own:\n"
                '`item_features = [{name = "brand"}, {name = "tags", kind = "multi_valued"}]`.\n'
            )
            parts.append(_table(Feature))
    return "\n".join(parts)


def _table(section: type[BaseModel]) -> str:
    paper: dict[str, Any] = {}
    if section is ModelConfig:
        paper = ModelConfig.of("dat", "paper").model_dump()
    if section is TrainingConfig:
        paper = TrainingConfig.of("paper").model_dump()
    meanings = _docstrings(section)
    head = ["setting", "values", "default"] + (["in `paper`"] if paper else []) + ["what it is"]
    lines = [_row(head), _row(["---"] * len(head))]
    for name, field in section.model_fields.items():
        cells = [f"`{name}`", _values(field), _default(field)]
        if paper:
            same = _shown(paper[name]) == _shown(field.default)
            cells.append("" if same else _shown(paper[name]))
        lines.append(_row([*cells, meanings.get(name, "")]))
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _docstrings(section: type[BaseModel]) -> dict[str, str]:
    body = ast.parse(inspect.getsource(section)).body[0]
    if not isinstance(body, ast.ClassDef):
        raise TypeError(f"{section}: not a class")
    found = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[statement.target.id] = " ".join(str(after.value.value).split())
    return found


def _first_paragraph(section: type[BaseModel]) -> str:
    return " ".join((inspect.getdoc(section) or "").split("\n\n")[0].split())


def _default(field: FieldInfo) -> str:
    return "*needed*" if field.is_required() else _shown(field.default)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(_shown(part).strip("`") for part in value) + "]`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{value}`"


def _values(field: FieldInfo) -> str:
    return ", ".join([_kind(field.annotation), *_limits(field.metadata)])


def _limits(rules: Iterable[Any]) -> list[str]:
    bounds = {"ge": "≥ ", "gt": "> ", "le": "≤ ", "lt": "< "}
    return [
        f"{sign}{getattr(rule, name)}"
        for rule in rules
        for name, sign in bounds.items()
        if getattr(rule, name, None) is not None
    ]


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f'`"{value}"`' for value in arguments)
    if origin in (Union, UnionType):
        return ", ".join(_kind(part) for part in arguments if part is not type(None))
    if origin is Annotated:
        limits = [limit for rule in arguments[1:] for limit in _limits(rule.metadata)]
        return " ".join([_kind(arguments[0]), *limits])
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if annotation is Feature:
        return "features"
    if inspect.isclass(annotation) and issubclass(annotation, str) and annotation is not str:
        return ", ".join(f'`"{value}"`' for value in annotation)  # type: ignore[attr-defined]
    plain = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`"}
    return plain[annotation]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
