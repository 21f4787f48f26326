"""The predictor; image files in, masks out; export formats."""
