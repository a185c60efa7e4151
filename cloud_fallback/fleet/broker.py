"""The fleet's broker: mosquitto's settings and its access list, for one tenant. Starts no broker.

Devices come in at one listener, managers at another. The devices' one takes the name in a certificate for the
user name and for the client id, so that no device can sign in as another one or take its session over; on the
managers' one several replicas share a certificate.
"""

from dataclasses import dataclass
from pathlib import Path

MANAGER_USER = "MANAGER"
"""Common name of the manager's certificate. No device can be called so: their names have no capitals."""


@dataclass(frozen=True, slots=True)
class BrokerFiles:
    """Where the broker finds what, as absolute paths.

    Args:
        authority: Certificates that devices and managers are checked against (PEM).
        certificate: The broker's own (PEM), for the name that devices connect to.
        key: Of `certificate`.
        revoked: The revocation list (PEM). It has to be there, and a list past its next update shuts
            everybody out. Read again at SIGHUP.
        access: What `access_list` gives.
        state: A folder for what the broker keeps.
    """

    authority: Path
    certificate: Path
    key: Path
    revoked: Path
    access: Path
    state: Path


def configuration(
    files: BrokerFiles,
    *,
    port: int = 8883,
    manager_port: int = 8884,
    bind: str = "0.0.0.0",  # noqa: S104, stores come from everywhere, with a certificate
    user: str = "mosquitto",
) -> str:
    """Give the text of mosquitto.conf.

    Args:
        files: Where things are.
        port: For devices.
        manager_port: For managers, on this machine.
        bind: The address that devices reach.
        user: Whom the broker becomes when root starts it.
    """
    tls = f"""\
cafile {files.authority}
certfile {files.certificate}
keyfile {files.key}
crlfile {files.revoked}
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
"""
    return f"""\
# The broker of a fleet. `edge-runtime fleet init` writes this file; `mosquitto -c` reads it (2.0 or newer).
# After a change of the revocation list or of a certificate: kill -HUP.

# Devices. Their certificate says who they are, and nothing else does: with the client id tied to it, none can
# take over another one's session.
listener {port} {bind}
{tls}use_username_as_clientid true

# Managers. Replicas share a certificate, so they bring client ids of their own. Keep it away from the stores.
listener {manager_port} 127.0.0.1
{tls}
allow_anonymous false
acl_file {files.access}
user {user}

# What is retained is saved every second; by default it would be every half hour, and a killed broker would
# forget what it has acknowledged. Saving after every message (autosave_on_changes) writes the whole file each
# time: a push to 2,000 devices took 5.6 s of nothing but that, without it 0.1 s. The second that can be lost
# costs nothing, nor do sessions: devices and manager compare what they know at every connect.
persistence true
persistence_location {files.state}/
autosave_interval 1
autosave_on_changes false

# Messages have at most 64 KiB; bytes travel over HTTPS. What is a little longer gets through, to be refused
# with a word why; what is longer than this is not passed on.
max_packet_size 262144
# As many reports may be on their way to a manager at once; devices choose less for themselves.
max_inflight_messages 1000
# For a manager that is away. What does not fit is not missed: a manager that is back has everybody report.
max_queued_messages 20000
# A device that is gone for good must not be remembered for ever; one that comes back later just starts anew.
persistent_client_expiration 14d
# Small answers would otherwise wait for Nagle's algorithm.
set_tcp_nodelay true
max_keepalive 600

log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages false
"""


def access_list(tenant: str) -> str:
    """Give the text of the access list.

    Args:
        tenant: Whose fleet it is.
    """
    own = f"v1/{tenant}/d/%u"
    return f"""\
# Who may do what. %u is the name in a device's certificate. Who may not read a topic can subscribe to it, and
# hears nothing.
pattern read {own}/desired
pattern read {own}/cmd
pattern read v1/{tenant}/all/notice
pattern write {own}/reported
pattern write {own}/presence
pattern write {own}/event
# Replies carry a number that only the replica that asked knows.
pattern write v1/{tenant}/m/+/reply

user {MANAGER_USER}
topic readwrite v1/{tenant}/#
"""
