"""Commands that train a model: a cross-encoder or late interaction, a student of a teacher, learning to rank."""
