"""What keeps edits from succeeding, one cause at a time, read off the controls."""

from __future__ import annotations

from typing import Any

# From a perfect edit to ours, every editor adds one thing that can fail.
_LADDER = (
    ("truth", "the judge, who is shown the true edit"),
    ("truth-vae", "the autoencoder, that the true edit went through"),
    ("changed-mask", "the model and the denoising, with every place free that has to change"),
    ("true-mask", "the room, when only the old thing's place is free"),
    ("ours", "the search for the mask"),
)


def losses(report: dict[str, Any]) -> list[tuple[str, float]]:
    """(cause, share of all edits that it costs; negative: gained) in the ladder's order, for the editors that ran."""
    success = {
        name: figures["success"]["value"] for name, figures in report["editors"].items() if figures.get("success")
    }
    before, found = 1.0, []
    for name, cause in _LADDER:
        if name in success:
            found.append((cause, before - success[name]))
            before = success[name]
    return found


def sentences(report: dict[str, Any]) -> str:
    """The losses as Markdown, the largest named; empty where no editor was judged."""
    found = losses(report)
    if not found:
        return ""
    lines = [f"* {0.0 - share:+.1%} {cause}" for cause, share in found]
    cause, share = max(found, key=lambda loss: loss[1])
    if share > 0:
        lines.append(f"\nMost is lost to {cause}: {share:.1%} of all edits.")
    return "\n".join(lines)
