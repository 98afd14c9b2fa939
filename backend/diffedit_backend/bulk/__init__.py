"""Many pictures in one go: a folder or a glob, each with its own words out of a table; to be continued at any time."""
