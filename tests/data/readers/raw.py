"""Small files in the form of the public ones."""

import gzip
import json
from pathlib import Path
from typing import Any

USERS = tuple(f"A{number:02}" for number in range(8))
ITEMS = tuple(f"00{number:02}X" for number in range(30))
START = 1_300_000_000
"""Seconds since 1970."""


def events() -> list[tuple[str, str, float, int]]:
    """User, item, rating, seconds: of 30 items, users 0 to 5 have rated the first 26 and users 6
    and 7 three each, which a 5-core drops; later items later."""
    rows = []
    for number, user in enumerate(USERS):
        for place, item in enumerate(ITEMS[:26] if number < 6 else ITEMS[25:28]):
            rows.append((user, item, float(1 + (number + place) % 5), START + 86_400 * place))
    return rows


def write_2014_ratings(path: Path) -> Path:
    lines = [f"{user},{item},{rating},{time}" for user, item, rating, time in events()]
    return write(path, "\n".join(lines) + "\n")


def write_2014_metadata(path: Path, count: int = 28) -> Path:
    """Item n is in subject n % 13, and each is in a second place too; item 3 in none."""
    lines = []
    for number, item in enumerate(ITEMS[:count]):
        paths = [["Books"], ["Books", f"Subject {number % 13:02}"], ["Kindle Store", "eBooks"]]
        record: dict[str, Any] = {
            "asin": item,
            "title": f"It's number {number}",
            "price": 0.5 + number,
            "categories": paths if number != 3 else [["Books"]],
            "brand": "Penguin" if number < 20 else "",
            "description": 'a \\d escape and a "quote"',
        }
        lines.append(repr(record))
    return write(path, "\n".join(lines) + "\n")


def write_2023_ratings(path: Path, *, history: bool = False, part: slice = slice(None)) -> Path:
    header = "user_id,parent_asin,rating,timestamp"
    lines = [header + ",history" if history else header]
    for user, item, rating, time in events()[part]:
        line = f"{user},{item},{rating},{1000 * time}"
        lines.append(f"{line},{ITEMS[0]} {ITEMS[1]}" if history else line)
    return write(path, "\n".join(lines) + "\n")


def write_2023_metadata(path: Path) -> Path:
    lines = []
    for number, item in enumerate(ITEMS[:28]):
        record: dict[str, Any] = {
            "main_category": "Books",
            "title": f"Númber {number}",
            "price": [9.5, "from 14.99", None, "12.25"][number % 4],
            "store": "Ada (Author)" if number < 20 else None,
            "categories": ["Books", f"Subject {number % 2}"] if number != 3 else [],
            "parent_asin": item,
            "images": [{"large": None}],
        }
        lines.append(json.dumps(record))
    return write(path, "\n".join(lines) + "\n")


def write(path: Path, text: str) -> Path:
    """Write `text`, compressed where the name ends in .gz."""
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
