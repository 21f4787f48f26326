"""What happens around Keras's `fit`: the machine's settings, schedules, callbacks."""
