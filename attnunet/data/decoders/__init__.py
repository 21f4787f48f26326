"""Decoders, which turn a volume's files into values and a grid."""
