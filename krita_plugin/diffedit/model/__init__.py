"""What the docker shows and the actions change: inputs, jobs, masks, results. No widgets here."""
