"""The tables of the benchmarks: CSV files, filled row by row, so that a benchmark can go on after a stop."""
import csv
from pathlib import Path


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none where there is no file yet."""
    return list(csv.DictReader(path.read_text("utf-8").splitlines())) if path.exists() else []


def write(path: Path, rows: list[dict]) -> None:
    """All rows, under the columns of the longest; the file appears whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    with open(unfinished, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, max(rows, key=len), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    unfinished.replace(path)
