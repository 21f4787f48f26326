"""The predictor, its export formats, its form for MLflow, and the reading of volumes and writing of masks."""
