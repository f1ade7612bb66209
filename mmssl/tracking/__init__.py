"""The online tracker and the geometry of boxes."""
