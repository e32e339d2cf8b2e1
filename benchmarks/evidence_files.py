"""The files of docs/evidence: numbers as CSV, and tables of Markdown that pages include."""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from scalenet_gp.kernels import keep_freed_memory

__all__ = ["DOCS", "Row", "add_rows", "begin", "read_rows", "write_markdown", "write_table"]

DOCS = Path(__file__).parents[1] / "docs" / "evidence"
Row = dict[str, str]


def add_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows to a file of CSV, with its head if it is new."""
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file; none if there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_markdown(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table of Markdown beside a file of CSV, and print it."""
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)) + "\n"
    path.with_name(f"{path.stem}_table.md").write_text(text, encoding="utf-8")
    print(text)


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as a file of CSV and as a table of Markdown."""
    path.unlink(missing_ok=True)
    add_rows(path, rows)
    write_markdown(path, list(rows[0]), [[str(value) for value in row.values()] for row in rows])


def begin(description: str | None) -> argparse.Namespace:
    """Read the options of a benchmark that trains one network a seed, and let torch use one thread."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=45, help="CPU seconds of each run (45)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each network (3)")
    parser.add_argument("--folder", type=Path, default=DOCS, help="folder of the results (docs/evidence)")
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.simplefilter("ignore")
    return parser.parse_args()
