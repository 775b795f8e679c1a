"""What takes over a connection that has been upgraded to another protocol."""

from typing import Protocol


class Tunnel(Protocol):
    """Another protocol on an HTTP connection, which goes on owning the socket."""

    @property
    def busy(self) -> bool:
        """Whether something that was asked is not answered."""

    def receive(self, data: bytes) -> None:
        """Bytes from the client."""

    def caught_up(self) -> None:
        """The client, which read slower than we wrote, has read enough."""

    def lost(self) -> None:
        """The client has left, or we have."""

    def drain(self) -> None:
        """Take nothing new, and end once all is answered; told again, end now if nothing is."""
