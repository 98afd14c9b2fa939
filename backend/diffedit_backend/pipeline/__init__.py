"""`DiffEditPipeline`: a drop-in for the deprecated pipeline of diffusers, made of `diffedit_backend.method`."""
