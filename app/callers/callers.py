"""Who may come in, and on which tier: API keys, known only by their SHA-256."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from hmac import compare_digest

from strata.app.callers.bucket import Bucket
from strata.app.callers.tier import DEFAULT, Tier


class KeyRefused(Exception):  # noqa: N818 - reads as what happened
    """No key, or none that is known; ``given`` tells which."""

    def __init__(self, message: str, *, given: bool) -> None:
        super().__init__(message)
        self.given = given


class TierRefused(Exception):  # noqa: N818 - reads as what happened
    """A tier that the caller cannot have: ``above`` its own, or one that there is not."""

    def __init__(self, message: str, *, above: bool) -> None:
        super().__init__(message)
        self.above = above


@dataclass(slots=True, frozen=True)
class Caller:
    """The holder of a key, or everybody who needs none."""

    tiers: tuple[Tier, ...]  # all there are, by rank
    rank: int  # of its own
    bucket: Bucket | None  # its texts a second
    key: str | None = None  # how the metrics call the key: the beginning of its SHA-256

    @property
    def own(self) -> Tier:
        """The tier the key stands for."""
        return self.tiers[self.rank]

    def tier(self, asked: str | None) -> Tier:
        """The tier to serve a request on: its own, or a lower one by name. Raises TierRefused."""
        if asked is None:
            return self.own
        for rank, tier in enumerate(self.tiers):
            if tier.name == asked and rank >= self.rank:
                return tier
        allowed = ", ".join(tier.name for tier in self.tiers[self.rank :])
        raise TierRefused(
            f"`tier` must be one of {allowed}{' with this key' if self.rank else ''}. Given: {asked[:100]}",
            above=any(tier.name == asked for tier in self.tiers),
        )


class Callers:
    """The tiers by rank, the keys to them, and the tier of those without a key, if they are let in."""

    def __init__(self, tiers: Sequence[Tier], keys: Mapping[bytes, int], keyless: int | None) -> None:
        """``keys``: SHA-256 of each key, and the rank of its tier. ``keyless``: the rank of callers without one."""
        self.tiers = tuple(tiers)
        self._keys = {
            digest[:8]: (digest, Caller(self.tiers, rank, _bucket(tiers[rank]), digest[:4].hex()))
            for digest, rank in keys.items()
        }
        self._keyless = None if keyless is None else Caller(self.tiers, keyless, _bucket(tiers[keyless]))

    @property
    def with_keys(self) -> bool:
        """Whether any key is known."""
        return bool(self._keys)

    @property
    def keyless(self) -> Tier | None:
        """The tier of callers without a key; None: they are refused."""
        return self._keyless.own if self._keyless else None

    def caller(self, headers: Sequence[tuple[bytes, bytes]]) -> Caller:
        """Who sent these headers. Raises KeyRefused. Where no key is known, none is looked at."""
        given = next((value for name, value in headers if name == b"authorization"), b"") if self._keys else b""
        scheme, _, key = given.strip().partition(b" ")
        if not key.strip() and scheme.lower() in (b"", b"bearer"):  # clients without a key send a bare `Bearer`
            if self._keyless is None:
                raise KeyRefused("an API key is needed: `Authorization: Bearer KEY`", given=False)
            return self._keyless
        digest = sha256(key.strip()).digest()
        # Found by its first bytes, so that a look-up tells nothing of the rest by the time it takes.
        known, caller = self._keys.get(digest[:8], (b"", None))
        if caller is None or scheme.lower() != b"bearer" or not compare_digest(known, digest):
            way = "" if self._keyless is None else f", or left out for tier `{self._keyless.own.name}`"
            raise KeyRefused(f"the API key is not known; it is read from `Authorization: Bearer KEY`{way}", given=True)
        return caller

    def update(self, new: Callers) -> None:
        """Let in those of ``new`` from now on; whoever's rate is still the same goes on with what was used."""
        keys = dict(new._keys)
        for start, (digest, caller) in new._keys.items():
            _, old = self._keys.get(start, (b"", None))
            keys[start] = (digest, _going_on(caller, old))
        keyless = new._keyless and _going_on(new._keyless, self._keyless)
        self.tiers, self._keys, self._keyless = new.tiers, keys, keyless


def everybody() -> Callers:
    """No tiers configured: all are served alike, without keys and without deadlines."""
    return Callers([DEFAULT], {}, keyless=0)


def one_key(key: str) -> Callers:
    """No tiers configured, and a key that all need."""
    return Callers([DEFAULT], {sha256(key.encode()).digest(): 0}, keyless=None)


def _bucket(tier: Tier) -> Bucket | None:
    return None if tier.rate is None else Bucket(tier.rate, tier.burst)


def _going_on(caller: Caller, old: Caller | None) -> Caller:
    bucket, before = caller.bucket, old.bucket if old else None
    same = bucket and before and (bucket.rate, bucket.burst) == (before.rate, before.burst)
    return replace(caller, bucket=before) if same else caller
