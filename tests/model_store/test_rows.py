"""Other people's files: read as they were meant, or refused naming file, row and what is expected."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import re
from pathlib import Path

import pytest

from strata.app.cli import main
from strata.loadtest.texts import load_texts
from strata.model_store.encoding.pairs import read_pairs
from strata.model_store.encoding.rows import RowError, text_rows
from strata.model_store.profiling.sts import read_sts
from strata.model_store.profiling.texts import read_texts
from strata.model_store.training.sources import read_lines

LONG = "xy" * 100_000  # more than the csv module's limit of a field


def made(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "groups"),
    [
        ("bom.tsv", "\ufeffsentence1\tsentence2\tscore\na\tb\t4.5\n", [("a", "b")]),
        ("case.tsv", "Query\tPassage \n a \tb\n", [("a", "b")]),
        ("tab-at-the-end.tsv", "anchor\tpositive\t\na\tb\t\n", [("a", "b")]),
        ("other-columns.tsv", "doc id\tQuery\tpassage\t%\n7\ta\tb\t3\n", [("a", "b")]),
        ("no-header.tsv", "what is a query\tanswer\nb\tc\n", [("what is a query", "answer"), ("b", "c")]),
        ("bare-bom.tsv", "\ufeffa\tb\n", [("a", "b")]),
        ("utf16.tsv", codecs.BOM_UTF16_LE + "anchor\tpositive\nä\t語\n".encode("utf-16-le"), [("ä", "語")]),
        ("utf32.jsonl", codecs.BOM_UTF32_BE + '["ä", "語"]\n'.encode("utf-32-be"), [("ä", "語")]),
        ("crlf.tsv", b"anchor\tpositive\tnegative\r\na\tb\t\r\n\r\nc\td\te\r\n", [("a", "b"), ("c", "d", "e")]),
        ("long.tsv", f"{LONG}\tb\n", [(LONG, "b")]),
        ("quote.tsv", 'a "quoted\tb"\n', [('a "quoted', 'b"')]),
        ("null.jsonl", '{"anchor": "a", "positive": "b", "negative": null}\n', [("a", "b")]),
        ("number.jsonl", '{"query": "year", "answer": 1984}\n', [("year", "1984")]),
        ("bom.jsonl", '\ufeff{"anchor": "a", "positive": "b"}\n', [("a", "b")]),
        ("line.jsonl", "a\u2028b".join(('["', '", "c"]\n')), [("a b", "c")]),
        ("array.jsonl", json.dumps([{"anchor": "a", "positive": "b"}, ["c", "d"]]), [("a", "b"), ("c", "d")]),
        ("pretty.json", json.dumps([["a", "b"], ["c", "d"]], indent=2), [("a", "b"), ("c", "d")]),
        ("upper.JSONL", '["a", "b"]\n', [("a", "b")]),
    ],
)
def test_pairs_are_read_as_they_were_meant(
    tmp_path: Path, name: str, content: str | bytes, groups: list[tuple[str, ...]]
) -> None:
    assert read_pairs(made(tmp_path, name, content)) == groups


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("scalar.jsonl", '["a", "b"]\n5\n', "scalar.jsonl, row 2: is 5; expected an object"),
        ("text.jsonl", '"just a text"\n', 'row 1: is "just a text"; expected an object'),
        ("broken.jsonl", '["a", "b"]\n{"anchor": \n', "row 2: is not JSON"),
        ("names.jsonl", '{"text1": "a", "text2": "b"}\n', "row 1: has the fields text1, text2; expected an anchor"),
        (
            "list.jsonl",
            '{"query": "a", "positive": "b", "negative": ["c"]}\n',
            'row 1: negative is ["c"]; expected a text',
        ),
        ("null.jsonl", '{"anchor": "a", "positive": null, "negative": "c"}\n', "row 1: a pair needs two texts"),
        ("half.jsonl", '{"anchor": "a", "negative": "c"}\n', "row 1: names the columns anchor, negative; expected"),
        ("lone.jsonl", '["\\ud800", "b"]\n', "row 1: anchor holds half of a surrogate pair"),
        ("empty.tsv", "anchor\tpositive\tnegative\na\t\tc\n", "row 2: a pair needs two texts"),
        ("half.tsv", "query\tcontext\na\tb\n", "row 1: names the columns query, context; expected an anchor"),
        ("score.tsv", "a\tb\t4.5\nc\td\t1\n", "field 3 of every row is a number, not a text"),
        ("comma.tsv", "anchor,positive\na,b\n", "row 1: a pair needs two texts"),
        ("nothing.tsv", "\n", "nothing.tsv: no rows in it"),
        ("latin.tsv", b"a\tb\nc\t\xe4\n", "latin.tsv, row 2: is not valid UTF-8"),
        ("unmarked.tsv", "a\tb\n".encode("utf-16-le"), "row 1: holds a zero byte"),
        ("packed.jsonl", gzip.compress(b'["a", "b"]\n'), "packed.jsonl: is compressed with gzip; unpack it first"),
        ("table.tsv", b"PAR1\x15\x04", "is Parquet"),
        ("pointer.tsv", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
    ],
)
def test_what_is_no_pair_is_refused_by_file_and_row(tmp_path: Path, name: str, content: str | bytes, why: str) -> None:
    file = made(tmp_path, name, content)
    with pytest.raises(ValueError, match=re.escape(why)) as refused:
        read_pairs(file)
    assert str(refused.value).startswith(str(file))


def test_texts_and_sts_go_through_the_same_reader(tmp_path: Path) -> None:
    lines = made(tmp_path, "lines.txt", codecs.BOM_UTF16_BE + "one\n\n two\u2028words \n".encode("utf-16-be"))
    assert read_lines(lines).lines == ["one", "two words"]
    many = made(tmp_path, "many.txt", "\ufeff" + "".join(f"text {i}\u2028on\n" for i in range(70)))
    assert set(read_texts([many]).lines) == set(load_texts(many)) == {f"text {i}\u2028on" for i in range(70)}
    table = '\ufeffscore\tsentence1\tsentence2\n1\ta\tb\n5.0\t"c\t' + LONG + "\n"
    pairs = read_sts(made(tmp_path, "sts.tsv", table))
    assert (pairs.first, pairs.second, pairs.scores) == (["a", '"c'], ["b", LONG], [1.0, 5.0])
    rows = '{"score": 1, "sentence1": "a", "sentence2": "b"}\n{"score": "2", "sentence1": "c", "sentence2": "d"}\n'
    assert read_sts(made(tmp_path, "sts.jsonl", rows)).scores == [1.0, 2.0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("score\tsentence1\tsentence2\nhigh\ta\tb\n", "row 2: score is 'high'; expected a number"),
        ("score\tsentence1\tsentence2\nnan\ta\tb\n", "row 2: score is nan; expected a number"),
        ("score\tsentence1\tsentence2\n1\ta\n", "row 2: has 2 fields; expected 3"),
        ("score\tsentence1\tsentence2\n1\ta\t\n", "row 2: sentence2 is empty; expected a text"),
        ("1\ta\tb\n2\tc\td\n", "row 1: expected the columns score, sentence1, sentence2"),
        ("", "row 1: expected the columns score, sentence1, sentence2"),
        ("score\tsentence1\tsentence2\n1\ta\tb\n1\tc\td\n", "1 different scores"),
    ],
)
def test_sts_tables_that_cannot_be_read_are_refused(tmp_path: Path, content: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        read_sts(made(tmp_path, "sts.tsv", content))


def test_no_traceback_reaches_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str], bert_source: Path) -> None:
    file = made(tmp_path, "scalar.jsonl", "5\n")
    assert main(["train", str(bert_source), str(tmp_path / "out"), "--max-tokens", "16", "--pairs", str(file)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"strata train: {file}, row 1: is 5; expected an object")
    assert "Traceback" not in error


def test_a_pipe_and_a_folder_are_no_rows(tmp_path: Path) -> None:
    """A file is looked at before it is read; what is read of a pipe is gone."""
    os.mkfifo(pipe := tmp_path / "pipe.tsv")
    for path, told in ((pipe, "is no regular file; write it into one"), (tmp_path, "is a folder; name a file")):
        with pytest.raises(RowError, match=told):
            list(text_rows(path))
