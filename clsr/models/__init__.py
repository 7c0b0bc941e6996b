"""The networks, one file a step: features go in at the top, unit vectors come out at the bottom."""
