"""Fills the store: a catalog comes in, every modality's vectors in Feast's views go out."""
