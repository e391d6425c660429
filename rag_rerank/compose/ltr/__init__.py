"""Learning to rank: a model over named features of the candidates."""
