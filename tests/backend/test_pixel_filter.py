"""The server's filter of pixels gives the same bytes as the one that every Python has."""

from __future__ import annotations

import pytest
from diffedit_backend.server.serving import BY_NUMPY
from diffedit_protocol.encodings import PLAIN_FILTER
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("channels", [3, 4])
@given(data=st.binary(max_size=300))
def test_numpy_and_plain_python_give_the_same_bytes_there_and_back(channels: int, data: bytes) -> None:
    packed = PLAIN_FILTER.difference(data, channels)
    assert BY_NUMPY.difference(data, channels) == packed
    assert BY_NUMPY.running_sum(packed, channels) == PLAIN_FILTER.running_sum(packed, channels) == data
