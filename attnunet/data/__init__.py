"""The way of the data: files -> slices -> patient splits -> prepared arrays -> batches."""
