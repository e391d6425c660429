"""Commands about this machine: the fastest settings of a model."""
