"""Whether a model predicts what its settings say. A wrong setting gives grey or burnt pictures and no error.

At the highest noise level a picture is nearly all noise. A network that predicts the noise ("epsilon") must then answer
with nearly its own input; one that predicts velocity (arXiv 2202.00512) answers with nearly minus the picture.
"""

from __future__ import annotations

import torch

from ..method.model import LoadedModel
from ..method.network import Network
from ..method.solvers import seeded_noise
from ..method.text import encode_text

_CELLS = 16  # latent cells on a side: enough to tell, and quick on a CPU
# Correlation of output and input on noise. Measured: 0.15 for the bundled velocity model; in theory above 0.99 for a
# trained noise model, and alpha (0.07) for a velocity one.
_NOISE_MODEL = 0.8
_NO_NOISE_MODEL = 0.5


def mistaken_prediction(model: LoadedModel) -> str:
    """A sentence for the artist when the model's prediction type looks wrong, else "". Takes one UNet evaluation."""
    if model.schedule.prediction_type == "flow":
        return ""  # noise - data, which is not told from the noise this way
    side = max(_CELLS, model.multiple // model.factor)
    like = torch.zeros(1, model.latent_channels, side, side, device=model.device)
    level = model.schedule.level_at(1.0, side**2)
    noise = seeded_noise(tuple(like.shape), 0, like)
    output = Network(model).predict(noise, level, [encode_text(model, "")])
    alike = float(torch.corrcoef(torch.stack((noise.flatten(), output.flatten())))[0, 1])
    said = model.schedule.prediction_type
    if said == "epsilon" and alike < _NO_NOISE_MODEL:
        found = "v_prediction"
    elif said != "epsilon" and alike > _NOISE_MODEL:
        found = "epsilon"
    else:
        return ""
    return (
        f"The settings of the model '{model.name}' say {said}, but it answers like a model of {found}. If its pictures "
        f'look wrong, write {{"prediction_type": "{found}"}} into diffedit.json in the model\'s folder.'
    )
