"""Reading the feeds: which files, how they are divided into records, and blocks of raw records out of them.

`inputs` finds the files, `blocks` plans and reads; `framing` says how a file is divided; `lines`, `documents` and
`tables` read one framing each; `structure` and `elements` find JSON elements; `sources` decompresses; `oversize`
streams what does not fit in memory; `payloads` reads single records back. Of live feeds, `subscriber` fetches the
messages of Pub/Sub, `messages` takes their payloads apart, and `journal` keeps blocks until they count.

Guarantee: every line, row or element of a file is in exactly one block, as an item, a fault or an empty line, and
reading the same file again gives the same blocks.
"""

from transforms.read.blocks import BlockPlan, RawBlock, plan_blocks, read_plan
from transforms.read.inputs import InputError, InputFile, expand_inputs, writer_id

__all__ = [
    "BlockPlan",
    "InputError",
    "InputFile",
    "RawBlock",
    "expand_inputs",
    "plan_blocks",
    "read_plan",
    "writer_id",
]
