"""What sampling needs around the mathematics: resizing, settings, images, noise, run records."""
