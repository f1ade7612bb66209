"""Label propagation: masks, joints and boxes of a first frame carried through videos by features."""
