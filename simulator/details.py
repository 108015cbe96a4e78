"""``detail`` of the events that are not about attaches and data sessions, in the shapes of published events."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

SECRET_MARK = "c2ltdWxhdGVk"
"""Part of every secret that the simulator plants (activation keys and tokens): must be in no output of the pipeline."""

_REGIONS = ("eu-west-1", "us-east-1", "ap-southeast-1")


def user_name(salt: int) -> str:
    """The log-in of the user that an event with this salt is about."""
    return f"user{salt % 40}@example.com"


def application_name(salt: int) -> str:
    """The application of a failed log-in with an application token."""
    return f"Application {100 + salt % 12}: Backend"


def address(salt: int) -> str:
    """The public address that a log-in came from."""
    return f"198.51.{100 + salt % 3}.{salt // 7 % 25}"


def _secret(salt: int) -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode().rstrip("=")
    return f"{header}.{SECRET_MARK}{salt:010d}.{SECRET_MARK}{salt * 7:012d}"


def _quota(salt: int, percentage: int, left: int, kind: tuple[int, str] = (5, "Data")) -> dict[str, object]:
    """Quota in snake case; the volume is a number, a text or negative, as it was seen."""
    volume: object = (left / 1e6, f"{left / 1e6:.6f}", -(salt % 5000) / 1e6)[salt % 3]
    return {
        "threshold_percentage": percentage, "threshold_volume": 100 * percentage // 100, "volume": volume,
        "traffic_type": {"id": kind[0], "description": kind[1]},
    }  # fmt: skip


def _assigned(salt: int) -> dict[str, object]:
    return {
        "quota": {
            "autoRefill": salt % 2 == 0, "expiryDate": "2026-12-31T00:00:00Z", "lastVolumeAdded": 500,
            "lastStatusChangeDate": "2026-09-30T22:00:00Z", "thresholdPercentage": 20, "thresholdVolume": 100,
            "volume": 500 - salt % 100, "status": {"id": 1, "description": "ACTIVE"},
            "action_on_exhaustion": {"id": 1 + salt % 2, "description": ("Block", "Throttle")[salt % 2],
                                     "peak_throughput": 128000 if salt % 2 else None},
        }
    }  # fmt: skip


def _breakout(salt: int) -> dict[str, object]:
    return {
        "username": user_name(salt), "breakout_id": 100 + salt % 300, "creation_date": "2026-09-30T09:10:09.000Z",
        "deletion_date": None, "region": _REGIONS[salt % 3], "breakout_type_id": 2, "breakout_type": "IPSec VPN",
        "resource_share_name": "Cloud Native Connectivity: VPC and VPN of customers connected", "price": 150,
    }  # fmt: skip


_BUILDERS: dict[str, Callable[[int], object]] = {
    "support": lambda salt: {
        "support_username": "admin@example.com", "support_user_org": {"id": 1, "name": "Admin Org"},
        "target_username": user_name(salt),
    },
    "trusted_device": lambda salt: {
        "trusted_device": {"id": salt % 90_000, "operating_system": "Mac", "browser": "Chrome 120.0.0.1",
                           "activation_date": "2026-09-30T13:18:07.947+0000"},
    },
    "activation": lambda salt: {"activationKey": f"{SECRET_MARK}{salt:012x}", "token": _secret(salt),
    "sourceIp": address(salt)},
    "client": lambda salt: {"sourceIp": address(salt), "userAgent": "Mozilla/5.0 (X11)", "userFederated": False},
    "federation": lambda salt: {"sourceIp": address(salt), "userFederated": True},
    "changed_data": lambda salt: {"changed_data": [{"name": {"old": "null", "new": f"Organisation {salt % 99}"}}]},
    "billing": lambda salt: {
        "billing_config": {"vatin": f"DE{salt % 10**9:09d}", "payment_term": {"id": 1}, "charging_model": {"id": 2}},
    },
    "tariff_plan": lambda salt: {
        "tariff_plan": {"id": salt % 500, "name": "Platform", "price": {"sim_activated_rate": [{"rate": 0.5,
        "scale_start": 0}]}},
    },
    "inclusive_volume": lambda salt: {
        "inclusive_volume": {"id": salt % 500, "volume": 1000, "cost": "19.9000000000",
        "start_date": "2026-10-01 00:00:00",
                             "ratezone": {"id": 2, "name": "Area 2"}},
    },
    "order": lambda salt: {"id": salt % 9000, "location": f"https://cdn.example.com/api/v1/order/{salt % 9000}"},
    "order_status": lambda salt: {
        "id": salt % 9000, "status": {"id": 3}, "ext_shipping_reference": f"1Z{salt:010d}",
        "shipped_with_provider_id": 2,
        "shipped_date": "2026-09-30T10:00:00.000Z",
    },
    "transition": lambda salt: {
        "transition": {"reason": "Factory test volume is used up",
                       "sim.status.from": {"id": 4, "description": "Factory Test"},
                       "sim.status.to": {"id": 1, "description": "Activated"}},
    },
    "old_status": lambda salt: {"old_status": {"id": 1, "description": "Activated"}},
    "sim_batch": lambda salt: {
        "sim_batch": {"id": salt % 5000, "batch_size": 100, "first_iccid": "8988303000000010001",
                      "last_iccid": "8988303000000010100", "sim_model": {"id": 4}},
    },
    "quota_threshold": lambda salt: {"quota": _quota(salt, 20, 19_000_000 - salt % 10**6)},
    "quota_used": lambda salt: {"quota": _quota(salt, 0, salt % 2000)},
    "sms_quota": lambda salt: {"quota": _quota(salt, 50, 1_000_000 * (salt % 3), (6, "SMS"))},
    "quota_assigned": _assigned,
    # Text that is not JSON, with bare dates, as 1NCE sends it.
    "quota_text": lambda salt: (
        f'{{"endpoint_quota_id":{salt % 10**6}, "quota_status_id": 1, "action_on_quota_exhaustion_id": 1, "volume": '
        f'{500 - salt % 100}.000000, "expiry_date": 2027-03-31T00:00:00Z, "threshold_percentage": 20}}'
    ),
    "quota_expired": lambda salt: {
        "quota": {"volume": 12.5, "expiryDate": "2026-10-01T00:00:00Z", "status": {"id": 3, "description": "EXPIRED"}},
    },
    "limit_warning": lambda salt: {
        "quota": {"threshold_percentage": 80, "threshold_volume": 800, "volume": 800 + salt % 1000 / 1000},
    },
    "breakout": _breakout,
    "breakout_id": lambda salt: {"username": user_name(salt), "breakout_id": 307},
    "breakout_up": lambda salt: {"breakout_id": 123, "organisation_id": 1200, "status": "UP"},
    "breakout_down": lambda salt: {"breakout_id": 123, "organisation_id": 1200, "status": "DOWN"},
    "vpn": lambda salt: {
        "protocol": "udp", "region": _REGIONS[salt % 3],
        "client": {"version": "2.4.9", "private_ip": f"10.64.{salt % 200}.2", "public_ip": address(salt)},
    },
}  # fmt: skip


def detail_json(name: str | None, salt: int) -> str:
    """The ``detail`` that a variant names, as JSON text; ``null`` for none."""
    return "null" if name is None else json.dumps(_BUILDERS[name](salt))
