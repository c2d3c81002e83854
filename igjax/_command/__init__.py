"""The parts of `python -m igjax`: what is read, explained, recorded and shown."""
