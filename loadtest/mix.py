"""Who sends the load: tiers, and what share of the texts each sends."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

FOLDER = Path(__file__).with_name("tiers")
TIERS = FOLDER / "three.toml"
DEFAULT = ("interactive=0.3", "standard=0.4", "bulk=0.3")


@dataclass(slots=True, frozen=True)
class Sender:
    """The callers of one tier."""

    tier: str
    share: float  # of all texts
    deadline_s: float  # from the scheduled arrival to the answer
    key: str
    texts: int = 1  # of each request

    @property
    def requests(self) -> float:
        """For each text that is sent by all."""
        return self.share / self.texts

    @property
    def headers(self) -> dict[str, str]:
        """Sent with every request."""
        return {"authorization": f"Bearer {self.key}"}


def senders(tiers: Path, mix: Sequence[str]) -> list[Sender]:
    """From a tiers file and ``NAME=SHARE[xTEXTS][:KEY]`` for each tier that sends; tightest deadline first.

    Shares of all texts count relative to one another; a request holds so many texts, or one. A key that is not given is
    ``loadtest-NAME``. Raises ValueError naming what is
    wrong, OSError when the file cannot be read.
    """
    try:
        tables = {table["name"]: table for table in tomllib.loads(tiers.read_text(encoding="utf-8"))["tier"]}
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"--tiers {tiers}: not a list of [[tier]] tables with a name each ({error})") from error
    found = []
    for part in mix:
        name, _, rest = part.partition("=")
        amount, _, key = rest.partition(":")
        share, by, texts = amount.partition("x")
        if name not in tables:
            raise ValueError(f"--mix {part}: {name!r} is not a tier of {tiers}; those are {', '.join(tables)}")
        if "deadline_ms" not in tables[name]:
            raise ValueError(f"--mix {part}: tier {name!r} has no deadline_ms, so nothing in it can be late")
        deadline_s = tables[name]["deadline_ms"] / 1e3
        size = _whole(texts, part) if by else 1
        found.append(Sender(name, _positive(share, part), deadline_s, key or f"loadtest-{name}", size))
    if len({sender.tier for sender in found}) < len(found):
        raise ValueError(f"--mix {' '.join(mix)}: a tier is named twice")
    total = sum(sender.share for sender in found)
    scaled = [replace(sender, share=sender.share / total) for sender in found]
    return sorted(scaled, key=lambda sender: sender.deadline_s)


def _positive(text: str, part: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < float("inf"):
        raise ValueError(f"--mix {part}: must be NAME=SHARE, NAME=SHARExTEXTS or either with :KEY; a share is above 0")
    return share


def _whole(text: str, part: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError(f"--mix {part}: a request holds 1 text or more, as in {part.partition('x')[0]}x32")
    return int(text)
