"""The guard on real Redis: the same decisions, and no more credit than there is, whoever asks and whoever dies."""

from __future__ import annotations

import pytest

from tests.guard.test_agreement import agree, guarded, stream
from tests.redis_server import RedisServer
from tests.world import world

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_real_redis_decides_as_the_arithmetic_does(server: RedisServer) -> None:
    """While its clock goes on by itself."""
    async with world(**guarded(redis=server.url)) as one:
        found = await agree(one, stream(2, 500), None)
    assert min(found["allow"], found["challenge"], found["block"]) > 5, found
