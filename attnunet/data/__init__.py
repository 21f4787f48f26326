"""Files -> slices -> patient splits -> prepared arrays -> batches."""
