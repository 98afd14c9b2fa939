"""The process that owns one device: it loads the model once, takes jobs over a pipe, reports steps and obeys cancel."""
