"""The method of DiffEdit (Couairon et al., arXiv 2210.11427) on latents: pure functions, and one engine that caches.

The way of an edit: `encoding` the picture, `difference` map, `mask`, `inversion` to a trajectory, masked `denoise`,
decoding. No sockets and no files here. Names are the paper's: x0 the clean latents, x_t noised ones, r the encoding
ratio.
"""
