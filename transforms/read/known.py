"""What a message is known by when it comes again."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xxhash

from transforms.read.subscriber import Received


def message_keys(subscription: str, messages: Iterable[Received]) -> np.ndarray:
    """Keys of messages, uint64: of the same message the same one, of others another.

    Of its id, which the server gives it and which is unique within a topic, the time of its publication, since
    emulators give their ids anew after each start, and the subscription. Among a million known messages a new one is
    taken for one of them once in 2 * 10^13.
    """
    of_subscription = xxhash.xxh3_64_intdigest(subscription.encode())
    of_messages = (xxhash.xxh3_64_intdigest(one.message_id.encode(), one.published) for one in messages)
    return np.fromiter(of_messages, np.uint64) ^ np.uint64(of_subscription)
