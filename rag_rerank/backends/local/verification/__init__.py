"""Published scores of known models, how near a score must come to one, and the record of models that were verified."""
