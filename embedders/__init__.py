"""Embeds: a catalog comes in, one vector for each item and modality goes out."""

from embedders.items import Interaction, Item, Modality, Reject
from embedders.vectors import Embeddings, Space

__all__ = ["Embeddings", "Interaction", "Item", "Modality", "Reject", "Space"]
