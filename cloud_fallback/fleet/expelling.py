"""Ends the sessions of devices at the broker: whoever signs in under a client id takes that session over.

A broker looks at the list of revoked certificates when somebody connects, and lets those be who are there
already. The manager may sign in under any client id, so it signs in under the device's, with a session that
ends at once: the broker lets go of the device and of all that waited for it. Keeps nobody out; that is the
list's, once the broker has read it.
"""

import logging
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

log = logging.getLogger(__name__)

_PATIENCE_S = 5.0
_LOOK_S = 0.2


@dataclass(slots=True)
class Expeller:
    """Does it one by one, on a thread of its own.

    Args:
        host: Of the broker.
        port: That managers connect to: on the devices' one a client id is the name in a certificate.
        tls: With the manager's certificate; None: plain TCP.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    _worker: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, "fleet-expelling"), init=False
    )

    def expel(self, clients: Sequence[str], then: Callable[[], None]) -> None:
        """End sessions soon.

        Args:
            clients: Their client ids; none of them need be there.
            then: Called afterwards, whether it could be done or not, from the thread that does it.
        """
        self._worker.submit(self._expel, clients, then)

    def close(self) -> None:
        """Leave undone what has not begun."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _expel(self, clients: Sequence[str], then: Callable[[], None]) -> None:
        for each in clients:
            try:
                self._take_over(each)
            except (OSError, ValueError) as error:
                log.warning("the session of %s cannot be ended: %s", each, error)
        then()

    def _take_over(self, client_id: str) -> None:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _PATIENCE_S
        if self.tls is not None:
            client.tls_set_context(self.tls)
        answers: list[ReasonCode] = []

        def answered(_client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
            answers.append(reason)

        client.on_connect = answered
        client.connect(self.host, self.port, clean_start=True)
        until_s = time.monotonic() + _PATIENCE_S
        while not answers and time.monotonic() < until_s:
            if client.loop(_LOOK_S) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        client.disconnect()
        if not answers or answers[0].is_failure:
            raise OSError(str(answers[0]) if answers else "the broker does not answer")
