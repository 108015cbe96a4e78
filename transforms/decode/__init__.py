"""Decode: raw records to record batches, each line to exactly one record, dead letter or empty line.

Two tiers: a typed strict decoder for the lines as documented, and a tolerant one for the lines that it refuses. Pure
functions; no Beam here.
"""

from transforms.decode.blocks import Decoded, decode_block, decode_one

__all__ = ["Decoded", "decode_block", "decode_one"]
