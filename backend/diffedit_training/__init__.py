"""How the bundled model is trained: autoencoder, then text-to-latent model, then the judge of edits, then the export.

Every random number of a step comes from (seed, stage, step, worker), so a run that was stopped and resumed is the run
that was not stopped, and a run of `--steps` is the same again on the same machine with the same number of workers.
"""
