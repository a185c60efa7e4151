"""What `edge-runtime serve` is told. Checked here; read from the command line by `cli`."""

from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.address import is_loopback
from edge_runtime.contract.errors import ConfigError
from edge_runtime.protocol.limits import DEFAULT_LIMITS, Limits

DEFAULT_PORT = 8009


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """How the models are served.

    Args:
        bundles: Folder, archive or URL of bundles.
        host: Address to listen at.
        port: For HTTP; 0: any that is free.
        grpc_port: For gRPC; None: no gRPC.
        keys: File of API keys; None: no keys.
        no_auth: Whether others than this machine may ask without a key.
        state: Folder for kept answers and the traffic in force; None: in memory.
        trust: Public keys, one of which must have signed a bundle; empty: signatures are not asked for.
        limits: What a request may be.
        instances: Batches that run at the same time; None: as many as the cores have room for.
        threads: Threads of each of them; None: the cores, shared out.
        kept_age_s: How long an answer is given again for the same request id.
        kept_bytes: All kept answers together.
        log_requests: Whether each request gets a line in the log.
        traces: Where spans go: an OTLP address (`http://…`), or a file that gets one a line; empty: nowhere.
        trace_share: Of the requests that come without a trace, how many begin one.
        drain_s: How long requests under way may take when the server is told to stop.
    """

    bundles: str
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    grpc_port: int | None = None
    keys: Path | None = None
    no_auth: bool = False
    state: Path | None = None
    trust: tuple[Path, ...] = ()
    limits: Limits = DEFAULT_LIMITS
    instances: int | None = None
    threads: int | None = None
    kept_age_s: float = 3600.0
    kept_bytes: int = 64 << 20
    log_requests: bool = False
    traces: str = ""
    trace_share: float = 1.0
    drain_s: int = 30

    def check(self) -> None:
        """Refuse what would let everybody in by mistake.

        Raises:
            ConfigError: Others can reach the address, and there are no keys.
        """
        if not is_loopback(self.host) and self.keys is None and not self.no_auth:
            raise ConfigError(
                f"host {self.host}: others can reach it",
                expected="API keys",
                got="none",
                do="Make one: edge-runtime serve --keys keys.json --new-key NAME; or say --no-auth",
            )
