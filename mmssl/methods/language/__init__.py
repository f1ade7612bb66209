"""Methods that learn from language: images and videos with their captions, and captions by themselves."""
