"""The use of Hydra: start a command; check, compose and search a sweep."""
