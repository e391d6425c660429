"""Text as rerankers read it: Unicode, words, sentences and tokens."""
