"""Read judged queries in every common format, count their problems, and write them back."""
