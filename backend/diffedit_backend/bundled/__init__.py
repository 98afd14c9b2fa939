"""The small trained model that ships with the package, and sample pictures for it.

Importing this package needs no torch: `weights_folder` only names a place.
"""

from pathlib import Path


def weights_folder() -> Path:
    """The folder of the bundled model, in the layout of diffusers' `StableDiffusionPipeline` (fp16 safetensors)."""
    return Path(__file__).parent / "weights"
