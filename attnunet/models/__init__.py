"""Networks: plain functions that build functional Keras models, whose outputs are logits."""
