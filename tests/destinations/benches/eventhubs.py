"""Bench of ``eventhubs``: a broker that stands for the Kafka endpoint of a namespace."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.destinations.benches.kafka import KafkaBench
from tests.servers.kafka import EVENT_HUBS_USER


class EventHubsBench(KafkaBench):
    """Hubs of two partitions; the connection string is that of the namespace, so the option names the hub."""

    type: ClassVar[str] = "eventhubs"
    user: ClassVar[str] = EVENT_HUBS_USER
    password: ClassVar[str] = (
        "Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=c2VjcmV0LWtleQ=="
    )
    wrong_password: ClassVar[str] = password.replace("c2VjcmV0", "d3Jvbmct")
    secret: ClassVar[str] = "EVENTHUBS_CONNECTION_STRING"

    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        return {
            "type": "eventhubs",
            "connection_string": {"env": self.secret},
            "topic": self.topic(stream, content),
            "endpoint": self.broker.tls,
            "certificates": str(self.broker.certificates),
            "timeout": 5,
        }
