"""How a server listens, what it accepts and where it keeps events."""

import ipaddress
from typing import Self

from pydantic import Field, SecretStr, model_validator

from dualtower.config import Settings
from dualtower.serving.new_items import MOST_NEW_ITEMS


class ServeConfig(Settings):
    """Settings of `dualtower serve`. Nothing beyond this machine is served without a token."""

    host: str = "127.0.0.1"
    """Address to listen on; any but a loopback address needs a token."""
    port: int = Field(default=8000, ge=0, le=65_535)
    """Port to listen on; 0 takes a free one."""
    token: SecretStr | None = Field(default=None, min_length=16)
    """What `Authorization: Bearer TOKEN` must hold, at least 16 characters; no check when None.
    Loading another bundle over HTTP always needs one."""
    events: str | None = None
    """Where events are kept: an SQLite file's path or postgresql://…; None accepts no events."""
    bundles: str | None = None
    """Folder under which `POST /bundle` may name bundles; None takes the served bundle's own."""
    watch: bool = False
    """Load the bundle again when its folder is replaced."""
    watch_seconds: float = Field(default=2.0, gt=0, le=3600)
    """How often the folder is looked at."""
    ranker: str | None = None
    """Function that orders the candidates, as package.module:function (`ranking.Ranker`); None
    leaves them as retrieved. An experiment's file may name it instead, for all its arms."""
    candidates: int = Field(default=5, ge=1, le=1_000)
    """So many candidates are retrieved for the ranker for each item asked for."""
    ranker_seconds: float = Field(default=0.05, gt=0, le=60)
    """How long an answer waits for the ranker."""
    max_body_bytes: int = Field(default=1_000_000, ge=1_000, le=1_000_000_000)
    """Larger requests are refused (413)."""
    max_n: int = Field(default=1_000, ge=1, le=100_000)
    """The most items of one answer."""
    max_batch: int = Field(default=256, ge=1, le=100_000)
    """The most queries of one batch, and events of one POST."""
    max_exclusions: int = Field(default=10_000, ge=0, le=10_000_000)
    """The most excluded items, and items of a history, of one query."""
    max_new_items: int = Field(default=MOST_NEW_ITEMS, ge=0, le=1_000_000)
    """The most items kept that only live events know, each compared with every query; of more,
    the one whose first event is longest ago is let go of."""
    send_seconds: float = Field(default=10.0, gt=0, le=3600)
    """How long a client may take to send its request: address and headers, and then its body."""
    drain_seconds: float = Field(default=0.0, ge=0, le=3600)
    """How long new requests are still answered after a signal to stop, while GET /ready says 503:
    as long as a load balancer takes to notice."""
    stop_seconds: int = Field(default=10, ge=0, le=3600)
    """How long running requests may go on after that."""

    @model_validator(mode="after")
    def _closed_without_a_token(self) -> Self:
        if self.token is None and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines, so a token is needed: set "
                "DUALTOWER_TOKEN to at least 16 random characters, or serve on 127.0.0.1"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
