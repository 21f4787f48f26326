"""The predictor, its export formats and its served form; volumes from image files, and masks to files."""
