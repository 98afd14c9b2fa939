"""Around the model: crop, scale to its size and back, refine, paste. numpy, Pillow and, for the filter, torch."""
