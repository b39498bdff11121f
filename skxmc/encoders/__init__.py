"""Encoders: from rows of X to embeddings."""

from skxmc.encoders.base import Encoder, ModuleEncoder, build_encoder
from skxmc.encoders.bow import BagOfWords, BagOfWordsEncoder

__all__ = ["BagOfWords", "BagOfWordsEncoder", "Encoder", "ModuleEncoder", "build_encoder"]
