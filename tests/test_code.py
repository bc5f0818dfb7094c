"""Codes: uniform, peppered, and never in the way of the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest
from argon2.low_level import hash_secret_raw
from hypothesis import given, settings
from hypothesis import strategies as st

from service import code as codes
from service.code import PROFILES, Hasher, Profile
from service.errors import Unreadable
from service.sealing import KeyRing

pytestmark = pytest.mark.anyio

OLD, NEW = b"o" * 32, b"n" * 32


@pytest.mark.parametrize("length", range(codes.MIN_LENGTH, codes.MAX_LENGTH + 1))
def test_a_code_has_its_length_in_digits(length: int) -> None:
    """Leading zeros included."""
    for _ in range(50):
        code = codes.generate(length)
        assert len(code) == length
        assert code.isascii()
        assert code.isdigit()


def test_every_digit_is_as_likely_at_every_place() -> None:
    """Chi-squared with nine degrees of freedom stays under 40 (p < 0.00001) at each place of 20,000 codes."""
    drawn = [codes.generate(6) for _ in range(20_000)]
    for place in range(6):
        counts = Counter(code[place] for code in drawn)
        assert len(counts) == 10
        assert sum((counts[digit] - 2000) ** 2 / 2000 for digit in counts) < 40


@settings(max_examples=25)
@given(code=st.from_regex(r"[0-9]{4,10}", fullmatch=True), amount=st.text(max_size=8), payee=st.text(max_size=8))
def test_only_the_same_code_for_the_same_thing_matches(code: str, amount: str, payee: str) -> None:
    """The verification, the code, the amount and the payee are all bound, and cannot lend letters to each other."""
    hasher = Hasher(KeyRing([NEW]), PROFILES["otp"])

    async def judge() -> None:
        stored = await hasher.hash(verification="ver_a", code=code, transaction=(amount, payee))
        assert await hasher.matches(stored, verification="ver_a", code=code, transaction=(amount, payee))
        others = [
            ("ver_b", code, (amount, payee)),
            ("ver_a", code + "0", (amount, payee)),
            ("ver_a", code, (amount + "0", payee)),
            ("ver_a", code, (amount, payee + "0")),
            ("ver_a", code, (amount + "x", payee)),
            ("ver_a", code, None),
        ]
        for verification, guess, transaction in others:
            matched = await hasher.matches(stored, verification=verification, code=guess, transaction=transaction)
            assert not matched

    asyncio.run(judge())
    hasher.close()


async def test_the_same_code_is_stored_differently_each_time() -> None:
    """Salt and pepper: nothing can be looked up."""
    hasher = Hasher(KeyRing([NEW]), PROFILES["otp"])
    stored = {await hasher.hash(verification="ver_a", code="1234", transaction=None) for _ in range(20)}
    assert len(stored) == 20
    hasher.close()


async def test_what_was_hashed_under_an_old_key_or_other_costs_still_matches() -> None:
    """A stored hash says itself how it was made."""
    before = Hasher(KeyRing([OLD]), Profile(memory_kib=128, passes=2, lanes=1))
    stored = await before.hash(verification="ver_a", code="1234", transaction=None)
    after = Hasher(KeyRing([NEW, OLD]), PROFILES["otp"])
    assert await after.matches(stored, verification="ver_a", code="1234", transaction=None)
    without = Hasher(KeyRing([NEW]), PROFILES["otp"])
    with pytest.raises(Unreadable):
        await without.matches(stored, verification="ver_a", code="1234", transaction=None)
    for hasher in (before, after, without):
        hasher.close()


@pytest.mark.parametrize(("profile", "inline"), [("otp", True), ("owasp", False)])
async def test_a_slow_profile_runs_in_threads_and_a_fast_one_inline(
    profile: str, *, inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop never waits for a slow hash, and at most two run at once."""
    monkeypatch.setattr(codes, "seconds", lambda given: 0.00004 if given == PROFILES["otp"] else 0.02)
    hasher = Hasher(KeyRing([NEW]), PROFILES[profile])
    threads: set[int] = set()

    def watched(*args: object, **kwargs: object) -> bytes:
        threads.add(threading.get_ident())
        return hash_secret_raw(*args, **kwargs)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr("service.code.hash_secret_raw", watched)
    await asyncio.gather(*[hasher.hash(verification="v", code="1234", transaction=None) for _ in range(6)])
    here = threading.get_ident()
    assert threads == {here} if inline else here not in threads and len(threads) <= 2
    hasher.close()
