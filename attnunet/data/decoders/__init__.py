"""Decoders: a volume's files as values and a grid."""
