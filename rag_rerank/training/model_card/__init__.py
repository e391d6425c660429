"""The card of a trained model: its facts, and the README that shows them."""
