"""Networks: plain functions that build functional Keras graphs and end in logits."""
