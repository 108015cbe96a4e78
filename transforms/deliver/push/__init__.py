"""Pushing: batches over a network, with retries, back-off, halving and a circuit breaker that no destination writes.

A destination that pushes says how large its requests may be (`batch.Limits`) and makes one attempt (`send`), whose
`transforms.deliver.answer.Answer` says as values what became of each record. `lane` forms batches and puts answers
together, `sender` tries again.
"""
