"""Puts a device of a fleet together: its link to the broker, its certificate's renewal. Starts nothing."""

from collections.abc import Callable
from datetime import UTC, datetime

from edge_runtime.contract.errors import ConfigError
from edge_runtime.fleet.device import FleetDevice
from edge_runtime.fleet.enrolling import check_own, confirm, renew_if_due
from edge_runtime.fleet.enrolment import Enrolment
from edge_runtime.fleet.outbound import presence
from edge_runtime.fleet.paho_link import Certificates, LinkOptions, PahoLink
from edge_runtime.fleet.papers import Papers
from edge_runtime.fleet.ports import Hands
from edge_runtime.update.ports import Clock
from edge_runtime.update.updater import Updater

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


def assemble(
    enrolment: Enrolment,
    updater: Updater,
    hands: Hands,
    *,
    clock: Clock,
    dice: Callable[[], float],
    report_every_s: float = 300.0,
) -> FleetDevice:
    """Make a device of a fleet, ready to be started.

    Args:
        enrolment: Who it is.
        updater: Its updates.
        hands: What commands are done with.
        clock: The device's.
        dice: Gives numbers in [0, 1).
        report_every_s: It reports at least so often.

    Raises:
        ConfigError: The broker is on another machine and without TLS, or the enrolment's files are not of one
            device.
    """
    if enrolment.broker_tls:
        check_own(enrolment)
    link = PahoLink(
        link_options(enrolment),
        enrolment.topics.taken(),
        presence(enrolment.topics, online=False, time=None),
        dice=dice,
    )
    return FleetDevice(
        enrolment,
        updater,
        hands,
        link,
        clock=clock,
        dice=dice,
        report_every_s=report_every_s,
        papers=Papers(
            lambda: renew_if_due(enrolment, datetime.fromtimestamp(clock.now_s(), UTC)),
            lambda: confirm(enrolment),
            clock=clock,
            dice=dice,
        ),
    )


def link_options(enrolment: Enrolment) -> LinkOptions:
    """Say how to connect.

    Raises:
        ConfigError: The broker is on another machine and without TLS.
    """
    if not enrolment.broker_tls and enrolment.broker_host not in _HERE:
        raise ConfigError(
            f"broker {enrolment.broker_host}", expected="TLS", got="none", do="Enrol this device again"
        )
    certificates = Certificates(enrolment.ca_file, enrolment.cert_file, enrolment.key_file)
    return LinkOptions(
        enrolment.broker_host,
        enrolment.broker_port,
        f"{enrolment.tenant}/{enrolment.device}",
        certificates if enrolment.broker_tls else None,
    )
