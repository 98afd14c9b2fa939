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


def test_the_mask_of_a_single_result_goes_through_no_union_of_selections(krita: RemoteKrita) -> None:
    """Krita's `Selection.add` is one call for the whole plane, 0.3 s at 4096²; the frames of an animation need it."""

    def inside(stage):
        from diffedit.canvas import apply
        from diffedit.canvas.capture import capture_steps
        from diffedit.model.ports import Addition
        from diffedit_protocol.messages import Bounds

        added = []

        class Counted(apply.Selection):
            def add(self, other):
                added.append(other.width())
                super().add(other)

        document = yield from stage.new(64, 64)
        captured = yield from stage.run(capture_steps(document, document.activeNode()))
        area = Bounds(0, 0, 64, 64)
        addition = Addition("result", area, b"\xff" * 64 * 64 * 4, b"\xff" * 64 * 64, area)
        original, apply.Selection = apply.Selection, Counted
        try:
            yield from stage.run(apply.apply_steps(captured.layer_ref, addition))
        finally:
            apply.Selection = original
        return added

    assert krita.run(inside) == [0]  # the empty one by which Krita learns to draw its outline
