"""The arrays that pictures travel in within the backend."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB or (H, W, 4) straight RGBA, sRGB, 0 to 255
Plane = NDArray[np.uint8]  # (H, W), 0 to 255: a mask, a selection or a soft map
