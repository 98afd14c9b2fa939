"""Krita never freezes: the longest that its main thread is away while a picture is captured and a result is added.

`addChildNode` is the one call that cannot be split: it composes the whole new layer into the picture before it returns.
All else goes in strips, one a turn of the event loop; that is asserted. The milliseconds depend on the machine:
`diffedit bench krita` measures them.
"""

from __future__ import annotations

import pytest
from diffedit_bench.krita.inside import edit_large
from diffedit_krita_driver.remote import RemoteKrita


@pytest.mark.parametrize(
    ("side", "model", "depth", "profile"),
    [
        (1024, "RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc"),
        (2048, "RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc"),
        (4096, "RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc"),
        (1024, "RGBA", "U16", "sRGB-elle-V2-g10.icc"),
    ],
)
def test_capture_and_apply_give_krita_a_turn_after_every_strip(
    krita: RemoteKrita, side: int, model: str, depth: str, profile: str
) -> None:
    reported = krita.run(edit_large, side=side, model=model, depth=depth, profile=profile, limit=120)
    print(f"{side} x {side} {model} {depth}, ms:", {name: round(value) for name, value in reported.items()})
    assert reported["capture turns"] > reported["strips"]
    assert reported["apply turns"] > reported["strips"]
