"""The stages in order, and the artifacts that they make."""
