"""Usage records in the current stream rendering."""

from __future__ import annotations

import numpy as np

from simulator.columns import SECOND, UsageColumns, time_texts
from simulator.fleet import Fleet
from simulator.network import OPERATORS, ZONE
from simulator.plan import Sessions


def usage_lines(rows: UsageColumns, fleet: Fleet, sessions: Sessions) -> list[bytes]:
    """One JSON line per row, without its line end.

    Volumes and costs have at most 15 digits, so the shortest text of the float is the exact decimal.
    """
    traffic = ('"traffic_type":{"id":5,"description":"Data"}', '"traffic_type":{"id":6,"description":"SMS"}')
    network = [operator.usage() for operator in OPERATORS]
    owners = [
        [f'"organisation":{owner.reference()},"tariff":{owner.tariff(zone)},"currency":{owner.currency_reference()}'
         for zone in (1, 2, 3)]
        for owner in fleet.organisations
    ]  # fmt: skip
    scale = np.where(rows.sms, 1, 1e6)
    rx, tx = rows.rx // np.where(rows.sms, SECOND, 1) / scale, rows.tx // np.where(rows.sms, SECOND, 1) / scale
    total = (rows.rx + rows.tx) // np.where(rows.sms, SECOND, 1) / scale
    cost = [value if value >= 0 else "null" for value in (rows.cost / 1e10).tolist()]
    parts, texts = fleet.usage_parts, sessions.text
    owner = fleet.organisation[rows.device]
    return [
        (
            f'{{"id":{number},"start_timestamp":"{start}Z","end_timestamp":"{end}Z",{traffic[sms]},'
            f'"volume":{{"total":{all_},"rx":{down},"tx":{up}}},"cost":{price},{owners[own][zone]},'
            f'"operator":{network[place]},{parts[device]},"session_id":"{texts[session]}"}}'
        ).encode()
        for number, start, end, sms, all_, down, up, price, own, zone, place, device, session in zip(
            rows.id.tolist(),
            time_texts(rows.start),
            time_texts(rows.time),
            rows.sms.tolist(),
            total.tolist(),
            rx.tolist(),
            tx.tolist(),
            cost,
            owner.tolist(),
            (ZONE[rows.operator] - 1).tolist(),
            rows.operator.tolist(),
            rows.device.tolist(),
            rows.session.tolist(),
            strict=True,
        )
    ]
