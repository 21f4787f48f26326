"""The training around Keras's `fit`: the machine's settings, learning rate schedules and callbacks."""
