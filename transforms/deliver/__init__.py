"""Deliver: what streams send, how it is shaped and packed, where it goes, and what waits.

A stream's rows get a *shape* (`shapes`) and a *format* (`formats`) and go to a *destination* (`destination`,
`registry`; one file for each type: `files`, `warehouse`, `null`). What is published is published whole (`storage`).
Records that cannot be delivered now wait in the spool (`spool`) until `pending.deliver_pending`.
"""
