"""Training of learning to rank: LambdaMART over features of the candidates."""
