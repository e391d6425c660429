"""One file a backend, each only texts -> scores. Import the one you need."""
