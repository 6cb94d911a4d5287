"""Tools that know nothing of a run: resizing, images, noise, files, errors."""
