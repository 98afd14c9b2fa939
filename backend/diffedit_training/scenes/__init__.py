"""The scenes that the bundled model knows: artwork on grounds, their captions, and edits with known truth."""
