"""What HTTP says about a body and an answer in headers, read as RFC 9110 has it."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable

from strata.app.api.refusals import ENCODED, VALIDATION, Refusal

_UTF8_MARK = codecs.BOM_UTF8


def preferred(accept: Iterable[str], offered: tuple[str, ...]) -> str:
    """Which of the media types ``offered`` a request wants; the first is for who does not care, or accepts none.

    Of two that are wanted alike, the one that is named first (or at all) wins.
    """
    accept = list(accept)
    if not accept or accept == ["*/*"]:
        return offered[0]
    ranges = [_media_range(part) for line in accept for part in line.split(",") if part.strip()]
    best, best_rank = offered[0], (0.0, -len(ranges) - 1)
    for media in offered:
        main = media.partition("/")[0]
        quality, place = 0.0, -len(ranges)
        for pattern in (media, f"{main}/*", "*/*"):  # the most specific range counts
            found = [(q, i) for i, (name, q) in enumerate(ranges) if name == pattern]
            if found:
                quality = max(q for q, _ in found)
                place = -found[0][1] if pattern == media else place
                break
        if quality > 0 and (quality, place) > best_rank:
            best, best_rank = media, (quality, place)
    return best


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (word.strip().lower() for word in part.split(";"))
    quality = next((word[2:].strip() for word in parameters if word.startswith("q=")), "1")
    try:
        return name, min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return name, 0.0


def check_encoding(encodings: Iterable[str]) -> None:
    """Refuse a body that is compressed. Raises Refusal."""
    given = ", ".join(encodings)
    for name in given.lower().split(","):
        if name.strip() not in ("", "identity"):  # a small body that unfolds into a large one costs memory
            message = f"`Content-Encoding: {given[:50]}` is not read here; send the body as it is, without that header"
            raise Refusal(ENCODED, message, headers={"Accept-Encoding": "identity"})


def as_utf8(raw: bytes) -> bytes:
    """A JSON body as UTF-8 without a mark; UTF-16 and UTF-32 are known by their marks or zeros. Raises Refusal."""
    if raw[:1] == b"{" and raw[1:2] != b"\0":  # nearly every body
        return raw
    if raw.startswith(_UTF8_MARK):
        return raw[len(_UTF8_MARK) :]
    encoding = json.detect_encoding(raw[:4])
    if not encoding.startswith(("utf-16", "utf-32")):
        return raw
    try:
        return raw.decode(encoding).encode()
    except UnicodeError:
        message = f"the body looks like {encoding.upper()} and is not; send JSON in UTF-8"
        raise Refusal(VALIDATION, message) from None
