"""Makes the pictures of how-it-works.md with the bundled model: `.venv/bin/python docs/make_pictures.py`.

Run it again when the bundled model changes. Into docs/images/stages/: source, difference (in latent cells), soft
(the map at the picture's size), mask, preview-1 to preview-4, edit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from diffedit_backend.bundled import samples, samples_folder
from diffedit_backend.editing import edit_picture, paste
from diffedit_backend.imaging.area import choose_area, to_work
from diffedit_backend.imaging.files import read_picture
from diffedit_backend.method.engine import DiffEditEngine, Subject
from diffedit_backend.method.settings import settings_for
from diffedit_backend.method.steps import Step
from diffedit_backend.models import load_model, use_threads
from diffedit_protocol.messages import EditRequest
from PIL import Image

OUT = Path(__file__).parent / "images" / "stages"
SIDE = 256  # px of every picture in the document
PREVIEWS = 4


def main() -> None:
    """Edit a sample of two things and keep what each stage gave."""
    sample = next(sample for sample in samples() if sample.file == "apple-and-car.png")
    picture = read_picture(samples_folder() / sample.file).pixels
    model = load_model("bundled", "cpu")
    use_threads(model)
    engine = DiffEditEngine(model)
    request = EditRequest(sample.source, sample.target, grow=16, feather=12)
    steps: list[Step] = []
    outcome = edit_picture(engine, request, picture, on_step=steps.append)
    assert outcome.soft_map is not None

    height, width = picture.shape[:2]
    area = choose_area(width, height, None, model.native_size, model.multiple)
    subject = Subject.of(to_work(picture, area))
    settings = settings_for(request.method, request.quality, steps=model.steps)
    difference = engine.difference(subject, sample.source, sample.target, settings).numpy()

    OUT.mkdir(parents=True, exist_ok=True)
    save("source", picture)
    save("difference", np.rint(255 * difference / difference.max()).astype(np.uint8), Image.Resampling.NEAREST)
    save("soft", outcome.soft_map)
    save("mask", outcome.mask)
    previews = [step.preview for step in steps if step.stage == "editing" and step.preview is not None]
    for number, index in enumerate(np.linspace(0, len(previews) - 1, PREVIEWS).round().astype(int), start=1):
        save(f"preview-{number}", previews[index])
    save("edit", paste(picture, outcome, 0))
    print(f"{sample.source} → {sample.target}: {outcome.evaluations} evaluations, threshold {outcome.threshold:.2f}")


def save(name: str, pixels: np.ndarray, resampling: Image.Resampling = Image.Resampling.BICUBIC) -> None:
    path = OUT / f"{name}.png"
    Image.fromarray(pixels).resize((SIDE, SIDE), resampling).save(path, optimize=True)
    print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


if __name__ == "__main__":
    main()
