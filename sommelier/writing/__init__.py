"""Has it written: items and histories come in, texts of a model in the store go out."""
