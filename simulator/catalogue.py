"""The events that the simulator can write, and what each of them means.

The expected category, outcome, reason and domain are stated here by hand, apart from the pipeline's own catalogue, so
that ``truth.json`` is a second opinion and not an echo. Texts are those of emnify's and 1NCE's published events.
"""

from __future__ import annotations

from dataclasses import dataclass

_CATEGORY_TYPES = {
    "network_attachment": {1: "Update location", 2: "Update GPRS location", 15: "Purge location",
    16: "Purge GPRS location"},
    "data_connection": {
        3: "Create PDP Context", 4: "Update PDP Context", 5: "Delete PDP Context", 49: "Device offline",
    },
    "sim_lifecycle": {
        8: "SIM activation", 9: "SIM suspension", 10: "SIM deletion", 42: "Endpoint enabled", 43: "Endpoint disabled",
        44: "SIM issued", 45: "SIM factory test", 48: "SIM registration", 50: "SIM Released", 51: "SIM Assigned",
        68: "Reset connectivity", 69: "SIM migration",
    },
    "limit_enforcement": {
        11: "Endpoint blocked", 12: "Organisation blocked", 18: "Quota threshold reached", 19: "Quota used up",
        20: "SMS quota threshold reached", 21: "SMS quota used up", 52: "Data quota enabled", 53: "Data quota disabled",
        54: "SMS quota enabled", 55: "SMS quota disabled", 56: "Data quota assigned", 57: "Data quota deleted",
        58: "SMS quota assigned", 59: "SMS quota deleted", 60: "Data quota expired", 61: "SMS quota expired",
        65: "Endpoint data traffic limit warning",
    },
    "platform_authentication": {
        6: "User authentication failed", 7: "Application authentication failed", 13: "Support Access",
        14: "Multi-factor Authentication", 37: "Password reset requested", 40: "User verification requested",
        47: "User federation activated",
    },
    "cloudconnect": {
        22: "CloudConnect TGW Resource Share created", 23: "CloudConnect TGW available",
        24: "CloudConnect VPN breakout available", 25: "CloudConnect TGW breakout terminated",
        26: "CloudConnect VPN breakout terminated", 27: "CloudConnect Connection State Changed",
    },
    "openvpn": {28: "OpenVPN connect", 29: "OpenVPN disconnect", 30: "OpenVPN authentication"},
    "organization_and_billing": {
        17: "Self-Signup", 31: "Organisation updated", 32: "Billing configuration updated", 35: "Payment",
        36: "User invited",
        41: "User verified", 46: "User deleted", 67: "User switched workspaces",
    },
    "tariff": {33: "Tariff plan updated", 34: "Usage tariff updated", 62: "Default inclusive volume updated"},
    "sim_order": {
        38: "Order submitted", 39: "Order updated", 63: "Monthly order limit threshold reached",
        64: "Monthly order limit reached",
    },
    "other": {0: "Generic"},
}  # fmt: skip

KNOWN_TYPES: dict[int, tuple[str, str]] = {
    number: (name, category) for category, types in _CATEGORY_TYPES.items() for number, name in types.items()
}
"""Name and category of each type that emnify documents."""

UNKNOWN_TYPE = 71
"""A type that nobody documents: it must be delivered as ``other``."""

TYPES = {**KNOWN_TYPES, UNKNOWN_TYPE: ("Satellite handover", "other")}

SEVERITIES = ("INFO", "WARN", "CRITICAL")
SOURCES = ("Network", "Policy Control", "API")
_INFO, _WARN, _CRITICAL = range(3)
_NETWORK, _POLICY, _API = range(3)

LIMIT_TYPES = (11, 18, 19, 20, 21, 65)
"""Types that say that a device reached a limit."""


@dataclass(frozen=True)
class Variant:
    """One kind of event: what it says, and what it must be understood as.

    ``scope`` is ``device``, ``organisation`` or ``user``; ``detail`` names its builder in `simulator.details`;
    ``weight`` is its share among the variants of its group.
    """

    type_id: int
    severity: int
    source: int
    alert: bool
    text: str
    outcome: str = "not_applicable"
    reason: str | None = None
    domain: str | None = None
    scope: str = "device"
    detail: str | None = None
    weight: float = 1.0

    def without_text(self) -> tuple[str, str | None, str | None]:
        """Outcome, reason and domain of the same event in the CSV rendering, which has neither text nor detail."""
        outcome = "not_applicable"
        if self.type_id in (1, 2, 3, 4):
            outcome = "rejected" if self.severity else "accepted"
        elif self.type_id in (6, 7):
            outcome = "failed"
        if outcome in ("rejected", "failed"):
            return outcome, "other", ("connectivity", "account", "platform")[self.source]
        reason, domain = _REASON_OF_TYPE.get(self.type_id, (None, None))
        return outcome, reason, domain


_REASON_OF_TYPE = {
    9: ("sim_suspended", "account"), 10: ("sim_deleted", "account"), 15: ("location_purged", "connectivity"),
    16: ("location_purged", "connectivity"), 18: ("quota_threshold", "account"), 20: ("quota_threshold", "account"),
    25: ("breakout_terminated", "account"), 26: ("breakout_terminated", "account"), 29: ("vpn_disconnected",
    "application"),
    43: ("endpoint_disabled", "account"), 49: ("no_reconnect", "device"), 60: ("quota_expired", "account"),
    61: ("quota_expired", "account"), 63: ("order_limit_threshold", "account"), 64: ("order_limit_reached", "account"),
    65: ("traffic_limit_warning", "account"),
}  # fmt: skip

ATTACHED = (
    Variant(1, _INFO, _NETWORK, False, "", "accepted"),
    Variant(2, _INFO, _NETWORK, False, "", "accepted"),
)
SESSION = (
    Variant(3, _INFO, _NETWORK, False, "", "accepted"),
    Variant(4, _INFO, _NETWORK, False, "", "accepted"),
    Variant(5, _INFO, _NETWORK, False, ""),
)
PURGED = (
    Variant(15, _INFO, _NETWORK, False, "VLR location information has been purged for IMSI='{imsi}'.",
            reason="location_purged", domain="connectivity"),
    Variant(16, _INFO, _NETWORK, False, "SGSN location information has been purged for IMSI='{imsi}'.",
            reason="location_purged", domain="connectivity"),
)  # fmt: skip


def _attach_rejected(number: int, cause: str, reason: str, domain: str, weight: float) -> Variant:
    node = "VLR" if number == 1 else "SGSN"
    text = f"Location update rejected from {node} {{node}} ({{operator}}) for IMSI {{imsi}}. {cause}"
    return Variant(number, _WARN, _NETWORK, False, text, "rejected", reason, domain, weight=weight)


_NOT_SUPPORTED = (
    "This operator is currently not supported for this IMSI. A different IMSI or operator will be used for the network "
    "registration."
)

ATTACH_REJECTED = (
    _attach_rejected(
        1,
        _NOT_SUPPORTED, "operator_not_supported", "connectivity", 30),
    _attach_rejected(
        2,
        _NOT_SUPPORTED, "operator_not_supported", "connectivity", 20),
    _attach_rejected(1, "Roaming not allowed.", "roaming_not_allowed", "connectivity", 6),
    _attach_rejected(2, "PLMN not allowed.", "roaming_not_allowed", "connectivity", 4),
    _attach_rejected(1, "The network is not part of the coverage policy.", "coverage_policy", "account", 5),
    _attach_rejected(2, "The operator is on the blocklist.", "coverage_policy", "account", 3),
    _attach_rejected(2, "RAT type E_UTRAN is not permitted.", "rat_not_allowed", "account", 3),
    _attach_rejected(1, "Unknown subscriber.", "unknown_subscriber", "platform", 2),
    _attach_rejected(2, "Authentication of the SIM failed.", "sim_authentication_failed", "device", 3),
    _attach_rejected(1, "Too many requests from this device.", "signalling_rate_limited", "device", 3),
    _attach_rejected(2, "No response from the visited network.", "network_failure", "connectivity", 3),
    _attach_rejected(1, "SIM is not activated.", "sim_not_active", "account", 3),
    _attach_rejected(1, "Unexpected data value.", "other", "connectivity", 1),
)  # fmt: skip


def _pdp_rejected(cause: str, reason: str, domain: str, weight: float) -> Variant:
    text = f"PDP Context Request rejected, because {cause}"
    return Variant(3, _WARN, _POLICY, True, text, "rejected", reason, domain, weight=weight)


PDP_REJECTED = (
    _pdp_rejected("SIM is not activated.", "sim_not_active", "account", 10),
    _pdp_rejected("data service disabled in service profile.", "data_service_disabled", "account", 8),
    _pdp_rejected("endpoint has no quota.", "quota_missing", "account", 8),
    _pdp_rejected("quota volume of endpoint is exhausted and defined action is to block data traffic.",
    "quota_exhausted",
                  "account", 14),
    _pdp_rejected("IMEI lock active, but IMEIs do not match, EP IMEI={imei}, IMEI provided from network = "
                  "356938035643809", "imei_lock_mismatch", "device", 5),
    _pdp_rejected("endpoint is currently blocked due to exceeded traffic limit.", "traffic_limit_exceeded", "account",
    10),
    _pdp_rejected("endpoint is disabled.", "endpoint_disabled", "account", 4),
    _pdp_rejected("the requested APN is not configured.", "apn_rejected", "device", 4),
    _pdp_rejected("of congestion in the home network.", "signalling_rate_limited", "device", 2),
    _pdp_rejected("of a time-out in the gateway.", "network_failure", "connectivity", 2),
    _pdp_rejected("the rate zone is not part of the tariff.", "coverage_policy", "account", 3),
    _pdp_rejected("of an unspecified cause.", "other", "account", 1),
)  # fmt: skip

_CHANGE = "Status of SIM changed from '{}' to '{}'"

RARE = (
    # Type 0: forced disconnects and call-backs.
    Variant(0, _WARN, _POLICY, True, "Disconnecting data access for endpoint to apply throttling action.",
            reason="throttled", domain="account", weight=3),
    Variant(0, _WARN, _POLICY, True, "Disconnecting data access for endpoint, because quota has been updated.",
            reason="quota_changed", domain="account", weight=3),
    Variant(0, _WARN, _POLICY, True, "Disconnecting data access for endpoint, because it has been disabled.",
            reason="endpoint_disabled", domain="account", weight=2),
    Variant(0, _WARN, _NETWORK, False,
            "SMS to {number} cannot be forwarded, because no API Callback URL defined in service "
            "profile.", "failed", "callback_missing", "application"),
    Variant(0, _WARN, _NETWORK, False, "Unable to dispatch DLR to API Callback URL https://hooks.example.com/sms (HTTP "
            "code=400).", "failed", "callback_failed", "application"),
    # Log-ins and users.
    Variant(6, _WARN, _API, False, "Failed authentication request from '{user}', Reason: Invalid password from IP {ip}",
            "failed", "invalid_credentials", "account", "user", weight=6),
    Variant(6, _WARN, _API, False, "Failed authentication request from '{user}', Reason: User is locked from IP {ip}",
            "failed", "other", "platform", "user"),
    Variant(7, _WARN, _API, False,
            "Failed authentication request from '{application}', Reason: Organisation Status: Suspended"
            " from IP {ip}", "failed", "organisation_not_active", "account", "organisation", weight=2),
    Variant(7, _WARN, _API, False,
            "Failed authentication request from '{application}', Reason: Invalid token from IP {ip}",
            "failed", "invalid_credentials", "account", "organisation", weight=2),
    Variant(13, _WARN, _API, False,
            "Support user admin@example.com of organisation Example generated a support token for "
            "user {user} of organisation Demo", scope="user", detail="support"),
    Variant(14, _INFO, _API, False, "New trusted device registered for user {user}", scope="user",
            detail="trusted_device"),
    Variant(17, _INFO, _API, False, "Example User ({user}) has signed up with organisation name New Organisation",
            scope="user", detail="activation"),
    Variant(36, _INFO, _API, False, "User {user} has been invited", scope="user", detail="activation"),
    Variant(37, _INFO, _API, False, "Password reset requested for user {user}", scope="user", detail="activation"),
    Variant(40, _INFO, _API, False, "Verification requested for user {user}", scope="user", detail="activation"),
    Variant(41, _INFO, _API, False, "User {user} has been verified", scope="user", detail="client"),
    Variant(46, _WARN, _API, False, "User {user} has been deleted", scope="user"),
    Variant(47, _INFO, _API, False, "Federation activated for user {user}", scope="user", detail="federation"),
    Variant(67, _INFO, _API, False, "User {user} switched to another workspace", scope="user", detail="client"),
    # Organisation, billing, tariff, orders.
    Variant(12, _WARN, _POLICY, True, "Blocking services for organisation, because of insufficient prepaid balance.",
            reason="prepaid_balance_insufficient", domain="account", scope="organisation"),
    Variant(12, _WARN, _POLICY, True, "Blocking services for organisation, because monthly cost limit exceeded.",
            reason="cost_limit_exceeded", domain="account", scope="organisation"),
    Variant(31, _INFO, _API, False, "Organisation has been updated", scope="user", detail="changed_data"),
    Variant(32, _WARN, _API, False, "Billing configuration has been updated", scope="user", detail="billing"),
    Variant(33, _WARN, _API, False, "Tariff plan of organisation has been updated", scope="user", detail="tariff_plan"),
    Variant(34, _WARN, _API, False, "Inclusive volume of usage tariff has been booked", scope="user",
            detail="inclusive_volume"),
    Variant(35, _CRITICAL, _API, False, "Charging of the invoice failed", "failed", "payment_failed", "account",
            "organisation"),
    Variant(35, _WARN, _API, False, "The credit card will expire in 60 days", reason="card_expiring", domain="account",
            scope="organisation"),
    Variant(62, _INFO, _API, False, "Default inclusive volume has been updated", scope="user"),
    Variant(38, _INFO, _API, False, "Order has been submitted", scope="user", detail="order"),
    Variant(39, _WARN, _API, False, "Status of order has been changed", scope="user", detail="order_status"),
    Variant(63, _WARN, _API, False, "Monthly order limit is reached to 80 %", reason="order_limit_threshold",
            domain="account", scope="organisation"),
    Variant(64, _WARN, _API, False, "Monthly order limit is reached", reason="order_limit_reached", domain="account",
            scope="organisation"),
    # SIM and endpoint life.
    Variant(8, _INFO, _API, False, _CHANGE.format("Issued", "Activated"), weight=4),
    Variant(8, _INFO, _POLICY, False, _CHANGE.format("Factory Test", "Activated"), detail="transition"),
    Variant(9, _INFO, _API, False, _CHANGE.format("Activated", "Suspended"), reason="sim_suspended", domain="account",
            weight=2),
    Variant(10, _INFO, _API, False, "Activated SIM got deleted", reason="sim_deleted", domain="account",
            detail="old_status"),
    Variant(42, _INFO, _API, False, "Endpoint has been enabled", weight=3),
    Variant(43, _INFO, _API, False, "Endpoint has been disabled", reason="endpoint_disabled", domain="account",
            weight=2),
    Variant(44, _INFO, _API, False, "SIM has been issued"),
    Variant(45, _INFO, _API, False, "SIM is now in factory test"),
    Variant(48, _INFO, _API, False, "A batch of SIMs has been registered", scope="user", detail="sim_batch"),
    Variant(49, _WARN, _NETWORK, False, "Device has been offline for more than 5 minutes", reason="no_reconnect",
            domain="device", weight=8),
    Variant(50, _INFO, _API, False, "SIM has been released from endpoint"),
    Variant(51, _INFO, _API, False, "SIM has been assigned to endpoint"),
    Variant(68, _INFO, _API, False, "Connectivity of endpoint has been reset", weight=2),
    Variant(69, _INFO, _API, False, "SIM has been migrated"),
    # Limits.
    Variant(11, _WARN, _POLICY, True, "Blocking data access for endpoint, traffic limit exceeded.",
            reason="traffic_limit_exceeded", domain="account", weight=4),
    Variant(18, _WARN, _POLICY, True, "Endpoint quota threshold reached, volume is below 20%.",
            reason="quota_threshold",
            domain="account", detail="quota_threshold", weight=6),
    Variant(19, _WARN, _POLICY, True, "Quota volume is completely used up and data access denied for endpoint.",
            reason="quota_exhausted", domain="account", detail="quota_used", weight=4),
    Variant(20, _WARN, _POLICY, True, "SMS quota threshold reached, volume is below 50%.", reason="quota_threshold",
            domain="account", detail="sms_quota", weight=2),
    Variant(21, _WARN, _POLICY, True, "SMS quota volume is completely used up and SMS access denied for endpoint.",
            reason="quota_exhausted", domain="account", detail="sms_quota", weight=2),
    Variant(52, _WARN, _API, False, "Data quota has been enabled", scope="organisation"),
    Variant(53, _WARN, _API, False, "Data quota has been disabled", scope="organisation"),
    Variant(54, _WARN, _API, False, "SMS quota has been enabled", scope="organisation"),
    Variant(55, _WARN, _API, False, "SMS quota has been disabled", scope="organisation"),
    Variant(56, _INFO, _API, False, "Data quota has been assigned to endpoint", detail="quota_assigned", weight=2),
    Variant(56, _INFO, _API, True, "Data quota has been assigned to endpoint", detail="quota_text"),
    Variant(57, _INFO, _API, False, "Data quota of endpoint has been deleted", detail="quota_assigned"),
    Variant(58, _INFO, _API, True, "SMS quota has been assigned to endpoint", detail="quota_text"),
    Variant(59, _INFO, _API, False, "SMS quota of endpoint has been deleted"),
    Variant(60, _WARN, _POLICY, True, "Data quota of endpoint has expired", reason="quota_expired", domain="account",
            detail="quota_expired"),
    Variant(61, _WARN, _POLICY, True, "SMS quota of endpoint has expired", reason="quota_expired", domain="account"),
    Variant(65, _WARN, _POLICY, True, "Endpoint used 80% of its monthly data traffic limit",
            reason="traffic_limit_warning",
            domain="account", detail="limit_warning", weight=4),
    # Breakouts and VPN.
    Variant(22, _INFO, _API, False, "CloudConnect Transit Gateway Resource Share created", scope="user",
            detail="breakout"),
    Variant(23, _INFO, _API, False, "CloudConnect Transit Gateway breakout 307 is available", scope="user",
            detail="breakout_id"),
    Variant(24, _INFO, _API, False, "CloudConnect VPN breakout 161 is available", scope="user", detail="breakout"),
    Variant(25, _INFO, _API, False, "CloudConnect Transit Gateway breakout 169 has been terminated",
            reason="breakout_terminated", domain="account", scope="user", detail="breakout"),
    Variant(26, _INFO, _API, False, "CloudConnect VPN breakout 160 has been terminated", reason="breakout_terminated",
            domain="account", scope="user", detail="breakout"),
    Variant(27, _INFO, _API, False, "CloudConnect connectivity state of breakout '123' changed to 'UP'",
            scope="organisation",
            detail="breakout_up"),
    Variant(27, _INFO, _API, False, "CloudConnect connectivity state of breakout '123' changed to 'DOWN'",
            reason="breakout_down", domain="application", scope="organisation", detail="breakout_down"),
    Variant(28, _INFO, _API, False, "OpenVPN client connected", scope="organisation", detail="vpn"),
    Variant(29, _INFO, _API, False, "OpenVPN client disconnected", reason="vpn_disconnected", domain="application",
            scope="organisation", detail="vpn"),
    Variant(30, _INFO, _API, False, "OpenVPN client (re-)authenticated successfully", scope="organisation",
            detail="vpn"),
    Variant(30, _WARN, _API, False, "OpenVPN client authentication failed", "failed", "vpn_authentication_failed",
            "application", "organisation", "vpn"),
    # A type that is not in any catalogue.
    Variant(UNKNOWN_TYPE, _INFO, _NETWORK, False, "Device was handed over to a satellite"),
)  # fmt: skip

VARIANTS: tuple[Variant, ...] = ATTACHED + SESSION + PURGED + ATTACH_REJECTED + PDP_REJECTED + RARE
"""All variants; an event column holds the index."""

UPDATE_LOCATION, UPDATE_GPRS_LOCATION, CREATE, UPDATE, DELETE, PURGE, PURGE_GPRS = range(7)
FIRST_ATTACH_REJECTED = 7
FIRST_PDP_REJECTED = FIRST_ATTACH_REJECTED + len(ATTACH_REJECTED)
FIRST_RARE = FIRST_PDP_REJECTED + len(PDP_REJECTED)
