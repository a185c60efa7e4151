"""The packet ring under streams that stall, jump, wrap, and send nothing but key frames or none at all."""

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.packet import Packet, StreamHeader
from edge_runtime.video.clock import Stamp
from edge_runtime.video.packets import Ring
from edge_runtime.video.tape import Budget, StreamTape, TapeFeed

HEADER = StreamHeader(b"h264", Fraction(1, 90_000), 320, 240)
OTHER = StreamHeader(b"hevc", Fraction(1, 90_000), 640, 480)
SECOND = 1_000_000_000

steps = st.one_of(
    st.integers(0, 200_000_000),  # a frame
    st.integers(SECOND, 9 * SECOND),  # a gap
    st.sampled_from([-3 * SECOND, 3600 * SECOND, -(2**33) * 11_111]),  # a jump, a wrap
)
packets = st.lists(
    st.tuples(steps, st.integers(0, 3_000), st.booleans(), st.sampled_from(["", "", "", "open", "clear"])),
    max_size=120,
)


def filled(made: list[tuple[int, int, bool, str]], ring: Ring) -> list[Packet]:
    """Put packets into a ring, each anchored as if its frame came at once; give those it was given."""
    given_packets: list[Packet] = []
    at_ns = source_ns = 0
    ring.begin(HEADER)
    for step, size, key, before in made:
        if before == "open":
            ring.begin(OTHER if size % 2 else HEADER)
        if before == "clear":
            ring.clear()
        source_ns += step
        at_ns += max(1, min(step, 10 * SECOND))
        packet = Packet(bytes(size), source_ns, source_ns, key)
        given_packets.append(packet)
        ring.put(packet)
        ring.anchor(source_ns, at_ns)
    return given_packets


@given(packets, st.floats(0, 20), st.integers(0, 20_000))
def test_it_is_bounded_in_order_and_begins_with_a_key_frame(
    made: list[tuple[int, int, bool, str]], seconds: float, max_bytes: int
) -> None:
    ring = Ring(seconds, max_bytes)
    came = filled(made, ring)
    kept = [piece.packet for piece in ring.since(0)]
    assert ring.bytes == sum(len(packet.data) for packet in kept) <= max_bytes
    if kept:
        assert kept[0].key
        # The newest packets in a row, and the very objects that were put in: nothing is copied.
        place = next(index for index, packet in enumerate(came) if packet is kept[0])
        inside = iter(came[place:])
        assert all(any(packet is other for other in inside) for packet in kept)


@given(packets)
def test_a_clip_begins_at_or_before_the_moment_that_is_asked_for(
    made: list[tuple[int, int, bool, str]],
) -> None:
    ring = Ring(1_000_000, 10**9)
    filled(made, ring)
    everything = list(ring.since(-SECOND))
    for wanted in [piece.at_ns for piece in everything][::7]:
        pieces = list(ring.since(wanted))
        assert pieces[0].packet.key
        assert pieces[0].at_ns <= wanted
        later = [piece for piece in pieces if piece.packet.key][1:]
        assert all(piece.at_ns > wanted for piece in later), "it begins with the last key frame before"


@given(st.floats(0.5, 30), st.integers(1, 100))
def test_as_many_seconds_as_are_asked_for_are_kept(seconds: float, group: int) -> None:
    ring = Ring(seconds, 10**9)
    ring.begin(HEADER)
    for number in range(2000):
        ring.put(Packet(b"x", number * 40_000_000, number * 40_000_000, number % group == 0))
        ring.anchor(number * 40_000_000, number * 40_000_000)
    pieces = list(ring.since(0))
    spans_s = (pieces[-1].at_ns - pieces[0].at_ns) / 1e9
    assert seconds - 0.04 <= spans_s <= seconds + group * 0.04 + 0.04


def test_packets_whose_time_nobody_knows_are_not_given() -> None:
    ring = Ring(10, 1000)
    assert not ring.put(Packet(b"a", 0, 0, True)), "before the stream was opened"
    ring.begin(HEADER)
    assert not ring.put(Packet(b"a", 0, 0, False)), "before the first key frame"
    assert ring.put(Packet(b"b", 40, 40, True))
    assert list(ring.since(0)) == []
    ring.anchor(40, 7)
    assert [piece.at_ns for piece in ring.since(0)] == [7]


def test_a_frame_that_is_decoded_late_anchors_the_run_it_came_from() -> None:
    ring = Ring(1000, 1000)
    ring.begin(HEADER)
    ring.put(Packet(b"a", 5 * SECOND, 5 * SECOND, True))
    ring.begin(HEADER)
    ring.put(Packet(b"b", 90 * SECOND, 90 * SECOND, True))
    ring.anchor(5 * SECOND, 1 * SECOND)
    ring.anchor(90 * SECOND, 2 * SECOND)
    assert [piece.at_ns for piece in ring.since(0)] == [SECOND, 2 * SECOND]


def test_a_group_too_large_for_the_ring_is_let_go_and_the_next_is_kept() -> None:
    ring = Ring(1000, 10)
    ring.begin(HEADER)
    ring.put(Packet(bytes(8), 0, 0, True))
    assert not ring.put(Packet(bytes(8), 1, 1, False))
    assert ring.bytes == 0
    assert not ring.put(Packet(bytes(1), 2, 2, False)), "without its key frame it is worth nothing"
    assert ring.put(Packet(bytes(1), 3, 3, True))


moves = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 500), st.booleans()),
        st.tuples(st.sampled_from(["frame", "open", "follow", "pull", "reset"]), st.just(0), st.just(False)),
    ),
    max_size=150,
)


@given(moves, st.integers(0, 20_000))
def test_a_clip_gets_every_packet_once_in_order_from_a_key_frame_on(
    made: list[tuple[str, int, bool]], budget: int
) -> None:
    purse = Budget(budget)
    tape, came = StreamTape(1000, purse), list[Packet]()
    followed: list[tuple[TapeFeed, list[Packet]]] = []
    tape.begin(HEADER)
    for number, (move, size, key) in enumerate(made):
        at_ns = number * SECOND // 25
        if move == "put":
            came.append(Packet(bytes(size), at_ns, at_ns, key))
            tape.put(came[-1])
        elif move == "frame" and came:
            tape.stamped(came[-1].pts_ns, Stamp(came[-1].pts_ns, 0))
        elif move == "open":
            tape.begin(HEADER)
        elif move == "reset":
            tape.reset()
        elif move == "follow":
            feed = tape.follow(at_ns - SECOND)
            followed += [] if feed is None else [(feed, [])]
        elif move == "pull":
            for feed, pulled in followed:
                pulled += [piece.packet for piece in feed.pull()]
    for feed, pulled in followed:
        pulled += [piece.packet for piece in feed.pull()]
        places = [next(at for at, packet in enumerate(came) if packet is one) for one in pulled]
        assert places == sorted(set(places)), "each once, in order"
        assert not pulled or pulled[0].key
        for before, after in pairwise(places):
            gap = came[before + 1 : after]
            assert not gap or came[after].key, "after a gap it goes on with a key frame"
        feed.close()
    assert purse.take(budget), "all memory is given back"
