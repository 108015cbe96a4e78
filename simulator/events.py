"""Events in the current stream rendering."""

from __future__ import annotations

import json

import numpy as np

from simulator import catalogue, details
from simulator.catalogue import SEVERITIES, SOURCES, TYPES, VARIANTS
from simulator.columns import EventColumns, time_texts
from simulator.fleet import Fleet
from simulator.network import OPERATORS
from simulator.plan import Sessions


def event_lines(rows: EventColumns, fleet: Fleet, sessions: Sessions) -> list[bytes]:
    """One JSON line per row, without its line end."""
    lines = np.empty(len(rows), object)
    variant = rows.variant
    for mask, write in (
        (variant <= catalogue.UPDATE_GPRS_LOCATION, _attach_lines),
        ((variant >= catalogue.CREATE) & (variant <= catalogue.DELETE), _session_lines),
        (variant > catalogue.DELETE, _text_lines),
    ):
        index = np.flatnonzero(mask)
        lines[index] = write(rows.take(index), fleet, sessions)
    return list(lines)


def _heads() -> list[str]:
    """Per variant and severity, flat: what follows the time: type, source and alert."""
    return [
        f'"event_type":{{"id":{item.type_id},"description":"{TYPES[item.type_id][0]}"}},'
        f'"event_severity":{{"id":{severity},"description":"{SEVERITIES[severity]}"}},'
        f'"event_source":{{"id":{item.source},"description":"{SOURCES[item.source]}"}},'
        f'"alert":{"true" if item.alert else "false"}'
        for item in VARIANTS
        for severity in range(len(SEVERITIES))
    ]


def _starts(rows: EventColumns, fleet: Fleet) -> list[str]:
    """Each record up to its organisation; the description comes next."""
    heads = _heads()
    owners = [f'"organisation":{owner.reference()}' for owner in fleet.organisations]
    head = (rows.variant * len(SEVERITIES) + rows.severity).tolist()
    return [
        f'{{"id":{number},"timestamp":"{time}Z",{heads[kind]},{owners[owner]}'
        for number, time, kind, owner in zip(
            rows.id.tolist(), time_texts(rows.time), head, rows.organisation.tolist(), strict=True
        )
    ]


def _attach_lines(rows: EventColumns, fleet: Fleet, sessions: Sessions) -> list[bytes]:
    networks = [operator.detail() for operator in OPERATORS]
    nodes = [
        f"mmec{place % 10 + 11}.mmegi0001.mme.epc.mnc{operator.mncs[0]:>03}.mcc{operator.country.mcc}.3gppnetwork.org"
        for place, operator in enumerate(OPERATORS)
    ]
    codes = [f"{operator.country.code}17" for operator in OPERATORS]
    radio = {6: ", RAT type='E_UTRAN'", 8: ", RAT type='EUTRAN-NB-IoT'"}
    lines = []
    for start, variant, device, place, rat, salt in zip(
        _starts(rows, fleet), rows.variant.tolist(), rows.device.tolist(), rows.operator.tolist(), rows.rat.tolist(),
        rows.salt.tolist(), strict=True,
    ):  # fmt: skip
        imsi = fleet.imsi[device]
        if variant == catalogue.UPDATE_LOCATION:
            node = f"{codes[place]}{salt % 10**7:07d}"
            text = f"New location received from VLR for IMSI='{imsi}', now attached to VLR='{node}'."
        elif rat in radio:
            text = (
                f"New location received from SGSN for IMSI='{imsi}', now attached to SGSN='{nodes[place]}', "
                f"IP='0.0.0.0'{radio[rat]}."
            )
        else:
            node = f"{codes[place]}{salt % 10**7:07d}"
            text = f"New location received from SGSN for IMSI='{imsi}', now attached to SGSN='{node}', IP='0.0.0.0'."
        lines.append(
            f'{start},"description":"{text}","user":null,{fleet.event_parts[device]},"detail":{networks[place]}}}'.encode()
        )
    return lines


def _session_lines(rows: EventColumns, fleet: Fleet, sessions: Sessions) -> list[bytes]:
    networks = [operator.session_detail() for operator in OPERATORS]
    begun = time_texts(rows.session_start)
    volumes = ((rows.rx / 1e6).tolist(), (rows.tx / 1e6).tolist(), ((rows.rx + rows.tx) / 1e6).tolist())
    lines = []
    for start, variant, device, place, session, begin, rat, salt, rx, tx, total in zip(
        _starts(rows, fleet), rows.variant.tolist(), rows.device.tolist(), rows.operator.tolist(),
        rows.session.tolist(), begun,
        rows.rat.tolist(), rows.salt.tolist(), *volumes, strict=True,
    ):  # fmt: skip
        created = variant == catalogue.CREATE
        text = "PDP Context deleted." if variant == catalogue.DELETE else "PDP Context updated."
        if created:
            nodes = f"CP={details.address(salt)}, DP={details.address(salt >> 3)}"
            text = f"New PDP Context successfully activated with SGSN {nodes}."
        context = _context(fleet, device, place, begin, rat, salt, created)
        volume = f',"volume":{{"rx":{rx},"tx":{tx},"total":{total}}}' if variant == catalogue.DELETE else ""
        lines.append(
            f'{start},"description":"{text}","user":null,{fleet.event_parts[device]},"detail":{{{networks[place]},'
            f'"session_id":"{sessions.text[session]}","pdp_context":{{{context}}}'
            f"{volume}}}}}".encode()
        )
    return lines


def _context(fleet: Fleet, device: int, place: int, begin: str, rat: int, salt: int, created: bool) -> str:
    """Members of ``pdp_context``: on 4G without a cell; breakout, APN and tariff only where the session is created."""
    operator = OPERATORS[place]
    old = rat in (1, 2, 5)
    cell = '"lac":null,"sac":null,"rac":null,"ci":null'
    if old:
        cell = f'"lac":{salt % 60000},"sac":null,"rac":{salt % 250},"ci":{salt % 65000}'
    end = '"breakout_ip":null,"apn":null'
    if created:
        end = (
            f'"breakout_ip":"203.0.113.{salt % 8}",'
            f'"apn":"iot.example.mnc{operator.mncs[0]:>03}.mcc{operator.country.mcc}.gprs",'
            f'"operator_id":"{operator.id}","tariff_id":"560","tariff_profile_id":"1234","ratezone_id":"3412"'
        )
    return (
        f'"pdp_context_id":{salt},"tunnel_created":"{begin}","gtp_version":{1 if old else 2},'
        f'"ggsn_control_plane_ip_address":"10.1.{salt % 4}.10","ggsn_data_plane_ip_address":"10.1.{salt % 4}.11",'
        f'"sgsn_control_plane_ip_address":"{details.address(salt)}",'
        f'"sgsn_data_plane_ip_address":"{details.address(salt >> 3)}",'
        f'"region":"eu-west-1","nsapi":5,"ue_ip_address":"{fleet.address[device]}","imeisv":"{fleet.imei[device]:0<16}",'
        f'"imsi":"{fleet.imsi[device]}","mcc":"{operator.country.mcc}","mnc":"{operator.mncs[0]}",{cell},"rat_type":{rat},'
        f'"tx_teid_control_plane":{2 * salt + 1},"tx_teid_data_plane":{2 * salt},"rx_teid":{salt % 10**8},{end}'
    )


def _text_lines(rows: EventColumns, fleet: Fleet, sessions: Sessions) -> list[bytes]:
    lines = []
    nothing = '"endpoint":null,"sim":null,"imsi":null'
    for start, kind, device, place, salt in zip(
        _starts(rows, fleet),
        rows.variant.tolist(),
        rows.device.tolist(),
        rows.operator.tolist(),
        rows.salt.tolist(),
        strict=True,
    ):
        variant = VARIANTS[kind]
        operator = OPERATORS[place]
        text = variant.text.format(
            imsi=fleet.imsi[device], imei=fleet.imei[device], operator=operator.name,
            node=f"{operator.country.code}{salt % 10**9}",
            number=salt % 10**6, user=details.user_name(salt), application=details.application_name(salt),
            ip=details.address(salt),
        )  # fmt: skip
        user = "null"
        if variant.scope == "user":
            name, number = details.user_name(salt), salt % 40
            user = f'{{"id":{200_000 + number},"username":"{name}","name":"Example User {number}"}}'
        subject = fleet.event_parts[device] if device >= 0 else nothing
        lines.append(
            f'{start},"description":{json.dumps(text)},"user":{user},{subject},'
            f'"detail":{details.detail_json(variant.detail, salt)}}}'.encode()
        )
    return lines
