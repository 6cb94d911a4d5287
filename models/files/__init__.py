"""The files that hold a checkpoint: what they are wrapped in, and what they say of themselves."""
