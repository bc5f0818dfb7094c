"""The key ring."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Unreadable
from service.sealing import Key, KeyRing

OLD, NEW = b"o" * 32, b"n" * 32


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_what_was_sealed_opens_only_where_it_belongs(plain: bytes, place: bytes) -> None:
    """Moved to another verification or another field, or altered in one bit, it does not open."""
    ring = KeyRing([NEW])
    sealed = ring.writer.seal(plain, place)
    assert ring.open(sealed, place) == plain
    assert plain not in sealed or len(plain) < 4
    for broken in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:5] + bytes([sealed[5] ^ 1]) + sealed[6:]):
        with pytest.raises(Unreadable):
            ring.open(broken, place)
    with pytest.raises(Unreadable):
        ring.open(sealed, place + b"x")


def test_the_first_key_writes_and_all_read() -> None:
    """During a rotation both orders of the ring read what either wrote."""
    old, new = KeyRing([OLD, NEW]), KeyRing([NEW, OLD])
    for writer in (old, new):
        sealed = writer.writer.seal(b"x", b"place")
        assert old.open(sealed, b"place") == new.open(sealed, b"place") == b"x"
        token = writer.writer.token("ver_a.0", "gw")
        assert old.vouches(token, "ver_a.0", "gw")
        assert new.vouches(token, "ver_a.0", "gw")
    assert not KeyRing([NEW]).vouches(KeyRing([OLD]).writer.token("ver_a.0", "gw"), "ver_a.0", "gw")


@pytest.mark.parametrize("delivery", ["ver_a.1", "ver_b.0", "ver_a.00"])
def test_a_token_speaks_for_one_delivery_by_one_provider(delivery: str) -> None:
    """And cannot be cut anew: the lengths of its parts are in it."""
    ring = KeyRing([NEW])
    token = ring.writer.token("ver_a.0", "gw")
    assert not ring.vouches(token, delivery, "gw")
    assert not ring.vouches(token, "ver_a.0", "gw2")
    assert not ring.vouches(token, "ver_a.", "0gw")
    assert not ring.vouches("", "ver_a.0", "gw")
    assert not ring.vouches("é\ud800", "ver_a.0", "gw")


def test_numbers_spread_over_all_shards_alike() -> None:
    """4,000 numbers in a row over 64 shards: none is empty, none has twice its share."""
    key = Key(NEW)
    counts = Counter(key.place(f"+44740012{n:04d}", 64).shard for n in range(4000))
    assert len(counts) == 64
    assert max(counts.values()) < 2 * 4000 / 64


def test_what_is_derived_depends_on_the_key_and_on_the_use() -> None:
    """No two uses share a key, and no value is an unkeyed one."""
    one, other = Key(NEW), Key(OLD)
    values = [one.place("x", 64).hash, one.fingerprint(b"x"), one.token("x", ""), other.place("x", 64).hash]
    assert len(set(values)) == len(values)
    assert one.id != other.id


def test_a_key_has_32_bytes() -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="32 bytes"):
        Key(b"short")
