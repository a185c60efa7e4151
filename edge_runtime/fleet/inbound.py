"""What comes from the broker: desired versions, commands and notices; a bad one is refused with its code.

Raises nothing for a bad message: it is told to the manager, and a command is answered. Sends nothing itself.
"""

from collections.abc import Callable

from edge_runtime.contract.fleet import Command, Desired
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.fleet import topics
from edge_runtime.fleet.commands import refusal
from edge_runtime.fleet.desk import Answer, Asked, Desk
from edge_runtime.fleet.parsing import command_id, parse
from edge_runtime.fleet.ports import Message
from edge_runtime.fleet.telling import Telling
from edge_runtime.fleet.topics import Address, Channel, Topics
from edge_runtime.update.ports import Clock

_UNREADABLE = "unreadable"
"""The id in the answer to a command whose own cannot be read."""


class Inbound:
    """Takes messages in.

    Args:
        mine: The device's topics.
        desire: Takes a `Desired`; raises `UpdateFailedError` for one that is not for it, or is old.
        taken_seq: Gives the number of the last one that was taken.
        desk: Takes commands.
        noticed: Called when everybody is asked to report.
        telling: Hears what was refused.
        clock: The device's.
    """

    def __init__(
        self,
        mine: Topics,
        *,
        desire: Callable[[Desired], None],
        taken_seq: Callable[[], int],
        desk: Desk,
        noticed: Callable[[], None],
        telling: Telling,
        clock: Clock,
    ) -> None:
        self._mine = mine
        self._desire = desire
        self._taken_seq = taken_seq
        self._desk = desk
        self._noticed = noticed
        self._telling = telling
        self._clock = clock

    def take(self, message: Message) -> Answer | None:
        """Take a message in.

        Returns:
            The answer to a command, where there is one at once.
        """
        try:
            address = topics.parse(message.topic)
            self._check_mine(address)
            if address.channel is Channel.COMMAND:
                return self._command(message)
            if address.channel is Channel.DESIRED:
                self._desired(message)
            else:
                self._noticed()
        except UpdateFailedError as error:
            self._telling.refused(error, message.topic, message.payload)
        return None

    def tell(self, answer: Answer) -> None:
        """Tell of a command that could be read, and was refused when its turn came."""
        if answer.error is not None:
            self._telling.refused(answer.error, self._mine.of(Channel.COMMAND), answer.reply.id.encode())

    def _check_mine(self, address: Address) -> None:
        own = address.channel in {Channel.DESIRED, Channel.COMMAND} and address.device == self._mine.device
        if address.tenant != self._mine.tenant or not (own or address.channel is Channel.NOTICE):
            raise UpdateFailedError(
                Failure.MESSAGE_FOREIGN_TOPIC,
                "topic",
                expected=f"one of {', '.join(self._mine.taken())}",
                got=f"{address.channel} of {address.tenant}/{address.device}",
            )

    def _desired(self, message: Message) -> None:
        desired = parse(Desired, message.payload)
        if message.retained and desired.seq == self._taken_seq():
            return  # the broker says again what we know, as it does at every connection
        self._desire(desired)

    def _command(self, message: Message) -> Answer | None:
        reply_to = message.response_topic
        if reply_to is not None:
            self._check_reply_topic(reply_to)
        until_s = None if message.expiry_s is None else self._clock.steady_s() + message.expiry_s
        try:
            command = parse(Command, message.payload)
        except UpdateFailedError as error:
            self._telling.refused(error, message.topic, message.payload)
            found = command_id(message.payload) or _UNREADABLE
            return Answer(reply_to, message.correlation, refusal(found, error))
        return self._desk.take(Asked(command, reply_to, message.correlation, until_s))

    def _check_reply_topic(self, topic: str) -> None:
        """A device answers its manager and nobody else."""
        address = topics.parse(topic)
        if address.channel is not Channel.REPLY or address.tenant != self._mine.tenant:
            raise UpdateFailedError(
                Failure.MESSAGE_FOREIGN_TOPIC,
                "command: response topic",
                expected=topics.reply(self._mine.tenant, "REPLICA"),
                got=repr(topic[:200]),
            )
