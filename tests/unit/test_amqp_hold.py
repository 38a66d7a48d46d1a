"""What a consumer of RabbitMQ has in its hands, and what it knows again when it comes back."""

from msgspec.structs import replace

from celeriac.brokers.amqp.connection import Arrival
from celeriac.brokers.amqp.hold import Hold, Returns
from celeriac.brokers.amqp.properties import NEW, encode_properties
from tests.fixtures.messages import ANY_SIZE, message


def arrival(name: str, tag: int) -> Arrival:
    properties = encode_properties(message(name), NEW)
    return Arrival("work", tag, False, properties, message(name).body)


def again(hold: Hold, one: Arrival) -> bool:
    """Have a message come again by the next channel; return whether it is suspect."""
    assert hold.add(2, replace(one, redelivered=True))
    [delivery] = hold.take(["work"], 1, ANY_SIZE)
    return delivery.suspect


def test_what_nobody_had_claimed_is_no_suspect_after_a_loss() -> None:
    hold = Hold("here", Returns())
    claimed, waiting = arrival("1", 1), arrival("2", 2)
    for one in (claimed, waiting):
        hold.add(1, one)
    assert len(hold.take(["work"], 1, ANY_SIZE)) == 1
    hold.lose(1)
    # Nobody hopes for it any more: it has become a message as any other.
    hold.give_up(float("inf"))
    assert (again(hold, claimed), again(hold, waiting)) == (True, False)


def test_what_was_claimed_comes_back_to_its_receipt() -> None:
    hold = Hold("here", Returns())
    one = arrival("1", 1)
    hold.add(1, one)
    [delivery] = hold.take(["work"], 1, ANY_SIZE)
    hold.lose(1)
    assert hold.stale([delivery.receipt]) == set()
    assert delivery.receipt not in hold.claimed
    # Another message with its id, such as a retry, is none of it; nor is one of another queue.
    retry = encode_properties(message("1", task="another"), NEW)
    assert hold.add(2, replace(one, tag=1, properties=retry))
    assert hold.add(2, replace(one, tag=2, queue="other"))
    assert not hold.add(2, replace(one, tag=3, redelivered=True))
    assert hold.claimed[delivery.receipt].arrival.tag == 3
    # It is there once: what is the same again is another one.
    assert hold.add(2, replace(one, tag=4))
    hold.lose(2)
    hold.give_up(0.0)
    assert hold.stale([delivery.receipt]) == set()
    hold.give_up(float("inf"))
    assert hold.stale([delivery.receipt]) == {delivery.receipt}
