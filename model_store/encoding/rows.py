"""Rows of other people's text, TSV and JSON files: read as they were meant, or refused naming file and row."""

from __future__ import annotations

import codecs
import csv
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from strata.model_store.bundle.hub import POINTER_TOLD, is_pointer

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")

# A file's mark -> its encoding. UTF-32's marks begin with UTF-16's, so they come first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# How files begin that are no text at all, and what to do with them.
_FOREIGN = (
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"(\xb5\x2f\xfd", "is compressed with zstd; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"PK\x03\x04", "is a zip archive (or a spreadsheet); unpack it, or save it as TSV"),
    (b"PAR1", "is Parquet; write it as JSONL: pandas.read_parquet(file).to_json(out, orient='records', lines=True)"),
)
_HEAD = 64  # bytes, more than any of these


class RowError(ValueError):
    """A file that cannot be read as rows; the message names it, the row, and what is expected."""


def refuse(path: Path, row: int | None, why: str) -> NoReturn:
    """Raise RowError for a row (counted from 1, as an editor does) of ``path``, or for all of it."""
    raise RowError(f"{path}{'' if row is None else f', row {row}'}: {why}")


def text_rows(path: Path) -> Iterator[tuple[int, str]]:
    """Every line with its number, without its end; blank ones too.

    UTF-8, or UTF-16 and UTF-32 with their mark. Raises RowError for anything else, OSError where there is no file.
    """
    if not stat.S_ISREG(mode := path.stat().st_mode):  # a pipe can be read once, a device without end
        refuse(
            path, None, "is a folder; name a file" if stat.S_ISDIR(mode) else "is no regular file; write it into one"
        )
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for start, why in _FOREIGN:
        if head.startswith(start):
            refuse(path, None, why)
    if is_pointer(path):
        refuse(path, None, POINTER_TOLD)
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
    try:
        with path.open(encoding=encoding) as lines:
            for number, line in enumerate(lines, start=1):
                if "\0" in line:
                    refuse(path, number, "holds a zero byte, so it is no UTF-8 text (UTF-16 needs its mark)")
                yield number, line.rstrip("\n")
    except UnicodeError as error:
        row = _first_undecodable(path) if encoding.startswith("utf-8") else None
        refuse(path, row, f"is not valid {encoding.upper()} ({error}); save the file as UTF-8")


def tsv_rows(path: Path, *, quoted: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Fields of every line that is not blank, with its number. Raises as `text_rows`.

    A quotation mark is text, however long the field, unless ``quoted``, where it may enclose a field without line ends.
    """
    for number, line in text_rows(path):
        if not line.strip():
            continue
        try:
            yield number, next(csv.reader([line], delimiter="\t")) if quoted else line.split("\t")
        except csv.Error as error:
            refuse(path, number, str(error))


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | list[Any]]]:
    """An object or list a line, with its number; or the elements of one array that is the whole file.

    Raises as `text_rows`, and RowError for a row that is neither object nor list.
    """
    first = True
    for number, line in text_rows(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if first and (array := _array(path)) is not None:
                yield from array
                return
            refuse(path, number, f"is not JSON ({error}); expected one object a line")
        if isinstance(row, list) and row and all(isinstance(part, dict | list) for part in row):
            array = _array(path)
            if array is None:
                refuse(path, number, "is a list of rows beside other lines; expected one object a line")
            yield from array
            return
        first = False
        yield number, _row(path, number, row)


def text_field(path: Path, row: int, name: str, value: object) -> str:
    """``value`` as text; "" for null. Raises RowError for what is no text, or text that UTF-8 cannot hold."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        refuse(path, row, f"{name} is {json.dumps(value)[:60]}; expected a text")
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        refuse(path, row, f"{name} holds half of a surrogate pair (\\ud800 to \\udfff), which is no character")
    return value


def _array(path: Path) -> list[tuple[int, dict[str, Any] | list[Any]]] | None:
    """The rows of a file that is one JSON array, counted from 1; None where it is none."""
    try:
        whole = json.loads("\n".join(line for _, line in text_rows(path)))
    except (ValueError, RecursionError):
        return None
    if not isinstance(whole, list):
        return None
    return [(number, _row(path, number, row)) for number, row in enumerate(whole, start=1)]


def _row(path: Path, number: int, row: object) -> dict[str, Any] | list[Any]:
    if not isinstance(row, dict | list):
        refuse(path, number, f'is {json.dumps(row)[:60]}; expected an object like {{"name": "text"}}, or a list')
    return row


def _first_undecodable(path: Path) -> int:
    """The row a decoder stops at: it reads ahead, so that what it has given out does not tell."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def is_number(text: str) -> bool:
    """Whether a field is a number, as Python reads one."""
    try:
        float(text)
    except ValueError:
        return False
    return True
