"""The method's settings, and the presets that an artist chooses from by two words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from diffedit_protocol.messages import Method, Quality

from .solvers import InversionRule

MapRule = Literal["peak", "mean"]
MapMean = Literal["sizes", "differences"]

# Of the outermost cells of a map between its lowest value and its peak: the mean above which what differs is a ground.
# On 480 bundled scenes that the benchmark does not show it is 0.02 to 0.26 for things and 0.44 to 0.89 for grounds.
_GROUND_AT_BORDER = 0.35


@dataclass(frozen=True)
class Look:
    """A part of the search: `maps` noises that noise the picture to `ratio` of the schedule."""

    ratio: float
    maps: int


@dataclass(frozen=True)
class MethodSettings:
    """How an edit is computed. Shares are of the whole noise schedule.

    steps: levels if the whole schedule were walked (the encoding ratio takes its share of them).
    order: 1 DDIM (Euler for flows), 2 DPM-Solver++ 2M; see `inversion_order` and `edit_order` for where it applies.
    inversion_rule: where a step of the inversion evaluates the network, see `InversionRule`.
    inversion_every: the inversion asks the network at every so many-th level only, and reaches those between by the
    same prediction; with the rule "start" alone.
    aligned: the edit's steps are evaluated beside the inversion's latents (DirectEdit); both are then of order 1.
    maps, map_ratio: how many noises the difference map averages, and how far they noise the picture.
    second_ratios: how far the second half of the noises noises it, the first of the two where the first half finds a
    thing that differs, the other where it finds a ground, see `second_look`; None: all alike.
    map_mean: what is averaged over the noises, the "sizes" of the differences (the paper) or the "differences", whose
    size is taken afterwards, so that what differs by chance cancels.
    map_rule: "peak" scales the smoothed map between its lowest value and its peak, the extreme 3 % cut off; "mean" is
    the reference's clamp.
    attention: share, 0 to 1, of the map that is weighed by where the changed words look; 0 does not ask.
    smoothing: sigma in cells of the map's Gaussian. refine: guided filter at full resolution, small
    holes filled and specks taken away.
    fixed_threshold: what "automatic" stands for; None looks for the most stable mask.
    inversion_text: "empty" (the paper) or "source"; inversion_guidance applies to "source" only.
    guidance: of an edit that asks for none; None takes the model's own, `guidance_factor` times.
    guidance_every: after its first step the edit asks what guidance leads away from at every so many-th step only, see
    `Guided`.
    away: share, 0 to 1, of the source text in what the edit's guidance leads away from; the rest is the negative text.
    eta: share of fresh noise while editing: what a seed changes. 0 makes the method deterministic.
    fill: a target that only leaves things out starts from the picture filled from what surrounds the mask.
    blend: the edit is blended into what surrounds the mask, where the request does not say otherwise.
    inverts: whether the edit starts from the picture's inversion, or goes without one (FlowAlign, see `align`).
    retries: how often an edit in which the model still sees the source is begun anew from noise, at an encoding ratio
    of `retry_ratio` or more; the best is kept. `retry_from` is the least ratio of an edit that is looked at: one below
    is meant to keep much. `retry_within`: the most of the picture that its mask may be; a ground that changes holds no
    old thing's outline. `retry_below`: how clearly the target must be seen, as a share of how clearly the source is
    seen in the picture. `checks`: how many noises look at a result, half of them where those tell clearly.
    soft_strength: a soft mask is per-cell strength (differential diffusion) instead of a linear blend.
    """

    steps: int
    order: int
    maps: int
    map_ratio: float = 0.5
    second_ratios: tuple[float, float] | None = None
    map_mean: MapMean = "sizes"
    inversion_rule: InversionRule = "start"
    inversion_every: int = 1
    aligned: bool = False
    map_rule: MapRule = "peak"
    attention: float = 0.0
    smoothing: float = 0.7
    refine: bool = True
    fixed_threshold: float | None = None
    inversion_text: Literal["empty", "source"] = "empty"
    inversion_guidance: float = 1.0
    guidance: float | None = None
    guidance_factor: float = 1.0
    guidance_every: int = 1
    away: float = 0.0
    eta: float = 0.0
    inverts: bool = True
    soft_strength: bool = True
    fill: bool = False
    blend: bool = False
    retries: int = 0
    retry_ratio: float = 0.9
    retry_from: float = 0.7
    retry_within: float = 0.5
    retry_below: float = 0.6
    checks: int = 4

    @property
    def first_look(self) -> Look:
        """The half of the noises that tells what kind of place differs, the larger one; all where there is no second
        look.
        """
        return Look(self.map_ratio, self.maps if self.second_ratios is None else -(-self.maps // 2))

    def second_look(self, at_border: float) -> Look | None:
        """The rest of the noises, where a thing or a ground is seen best; None where there is no rest.

        at_border: how much differs along the picture's border in the first look, see `border_share`. Little noise shows
        the edges of a thing and misses grounds, much noise shows grounds.
        """
        rest = self.maps - self.first_look.maps
        if self.second_ratios is None or rest == 0:
            return None
        thing, ground = self.second_ratios
        return Look(ground if at_border > _GROUND_AT_BORDER else thing, rest)

    @property
    def varies(self) -> bool:
        """Whether the seed changes the result."""
        return self.eta > 0 or not self.inverts

    @property
    def inversion_order(self) -> int:
        """The inversion's order: 1 for rules other than "start", whose predictions are not of the start of a step."""
        return 1 if self.aligned or self.inversion_rule != "start" else self.order

    @property
    def inversion_stride(self) -> int:
        """`inversion_every`, or 1 for rules other than "start"."""
        return 1 if self.aligned or self.inversion_rule != "start" else self.inversion_every

    @property
    def edit_order(self) -> int:
        """The edit's order."""
        return 1 if self.aligned else self.order

    def guidance_for(self, wish: float | None, model: float) -> float:
        """The wish of an edit, else the method's guidance, else the model's."""
        if wish is not None:
            return wish
        return self.guidance_factor * model if self.guidance is None else self.guidance


# arXiv 2210.11427, sections 3.2 and 4: 50 DDIM steps, 10 maps at half of the noise, the map scaled to [0, 1] and cut at
# 0.5 as it is, unconditional inversion, the background laid in by a binary mask.
PAPER = MethodSettings(
    steps=50,
    order=1,
    maps=10,
    smoothing=0.0,
    refine=False,
    fixed_threshold=0.5,
    soft_strength=False,
)
# The defaults of the library's deprecated pipeline, which many results were made with.
REFERENCE = replace(
    PAPER,
    inversion_rule="library",
    map_rule="mean",
    inversion_text="source",
    inversion_guidance=7.5,
    guidance=7.5,
)
# Chosen on bundled scenes that the benchmark does not show: 16 steps of second order edit as well as 20, and these as
# well as 50 of DDIM; so does an inversion that asks at every other level, and an edit that asks for the direction of
# its guidance at every other step (docs/quality.md). Two looks of two noises find better masks than one of four: an
# IoU of 0.889 and 0.888 beside 0.869 and 0.878 in 240 scenes of either seed, a boundary F of 0.855 and 0.853 beside
# 0.833 and 0.829. Of 80 edits 72 succeeded when led away from halfway between no words and the source's, 69 from none.
FAST = MethodSettings(
    steps=16,
    order=2,
    inversion_every=2,
    maps=4,
    map_ratio=0.65,
    second_ratios=(0.35, 0.8),
    map_mean="differences",
    guidance_every=2,
    away=0.5,
    eta=0.3,
    fill=True,
    blend=True,
    retries=2,
)
# FlowAlign: three evaluations a step, none of an inversion. Guidance leads away from the source, which is nearer to the
# target than no words are. On 24 bundled scenes that the benchmark does not show, 0.5, 1, 1.5 and 2 times the model's
# own gave the flow model 12, 21, 22 and 23 edits that succeeded; 1, 1.5, 2 and 3 times gave the v model 23, 23, 22 and
# 20, and the more, the less of the ground behind a thing was right.
ALIGN = replace(
    FAST, steps=20, order=1, guidance_every=1, eta=0.0, away=0.0, inverts=False, guidance_factor=1.5, retries=0
)

_BY_METHOD: dict[Method, MethodSettings] = {"fast": FAST, "paper": PAPER, "reference": REFERENCE, "align": ALIGN}
# (share of the steps, share of the maps). A draft of "fast" by 8 steps loses one edit in twenty, by 10 one in sixty
# (docs/quality.md).
_BY_QUALITY: dict[Quality, tuple[float, float]] = {"draft": (0.6, 0.5), "normal": (1.0, 1.0), "fine": (2.0, 2.0)}
_LEAST_STEPS = 10  # of a draft, unless normal quality has fewer


def settings_for(method: Method, quality: Quality, few_steps: int = 0, steps: int | None = None) -> MethodSettings:
    """The preset for the method and the quality of an EditRequest.

    few_steps: steps that a distilled model was made for, 0 for others. It inverts badly, so "fast" is "align" there,
    and a draft has no fewer steps; its guidance is the model's own, which was distilled into it.
    steps: of "fast" at normal quality, where it was measured how many suffice for the model; None: the preset's.
    """
    settings = _BY_METHOD[method]
    if few_steps and method in ("fast", "align"):
        settings = replace(ALIGN, steps=few_steps, guidance_factor=1.0)
    elif steps is not None and method == "fast":
        settings = replace(settings, steps=steps)
    share, maps = _BY_QUALITY[quality]
    if few_steps and not settings.inverts:
        share = max(1.0, share)
    return replace(
        settings,
        steps=max(round(settings.steps * share), min(settings.steps, _LEAST_STEPS)),
        maps=max(1, round(settings.maps * maps)),
    )
