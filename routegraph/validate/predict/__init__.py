"""Which answers will break, told from the full cache: what the rows of the model's own reply read, and of what."""
