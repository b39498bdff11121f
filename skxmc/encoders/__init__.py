"""Encoders: from rows of X to embeddings."""

from skxmc.encoders.base import Encoder, ModuleEncoder
from skxmc.encoders.bow import BagOfWords

__all__ = ["BagOfWords", "Encoder", "ModuleEncoder"]
