"""Heads: what the JSON of earlier v2 requests said, for callers that ask again and again with other tensors.

The same bytes for the same model mean the same: only their tensors are read. Remembers requests whose tensors
are all binary data, and nothing of the tensors themselves. Reads no JSON itself; `v2` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_runtime.contract.tensors import Array, TensorSpec
from edge_runtime.protocol import datatypes, v2
from edge_runtime.protocol.limits import DEFAULT_LIMITS, Limits

_LONGEST_BYTES = 1024
_MOST = 256


@dataclass(frozen=True, slots=True)
class _Known:
    """What a head said.

    Args:
        request: Without its tensors.
        tensors: Name, datatype, shape and bytes of each, in order.
        size_bytes: Of all.
        specs: What the model declared; held, so that no other object has their identities.
    """

    request: v2.InferRequest
    tensors: tuple[tuple[str, str, tuple[int, ...], int], ...]
    size_bytes: int
    specs: tuple[object, object]


class Heads:
    """Reads requests, quickly where their head is known. Belongs to one thread.

    Args:
        limits: What is taken.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._known: dict[tuple[bytes, int, int], _Known] = {}

    def decode_request(
        self,
        body: bytes,
        header_length: int | None,
        *,
        inputs: Sequence[TensorSpec] | None,
        outputs: Sequence[TensorSpec] | None,
    ) -> v2.InferRequest:
        """Read a request; as `v2.decode_request`.

        Raises:
            InputError: As that.
            TooLargeError: As that.
        """
        if header_length is None or header_length > _LONGEST_BYTES:
            return v2.decode_request(body, header_length, inputs=inputs, outputs=outputs, limits=self._limits)
        key = body[:header_length], id(inputs), id(outputs)
        known = self._known.get(key)
        if known is not None and len(body) == header_length + known.size_bytes:
            return self._filled(known, memoryview(body)[header_length:])
        request = v2.decode_request(body, header_length, inputs=inputs, outputs=outputs, limits=self._limits)
        self._remember(key, request, len(body) - header_length, (inputs, outputs))
        return request

    def _filled(self, known: _Known, raw: memoryview) -> v2.InferRequest:
        tensors: dict[str, Array] = {}
        at = 0
        for name, datatype, shape, size in known.tensors:
            tensors[name] = datatypes.from_bytes(name, datatype, shape, raw[at : at + size])
            at += size
        v2.check_finite(tensors, self._limits)
        request = known.request
        return v2.InferRequest(
            request.id,
            tensors,
            request.wanted,
            dict(request.parameters),
            request.priority,
            request.timeout_s,
        )

    def _remember(
        self,
        key: tuple[bytes, int, int],
        request: v2.InferRequest,
        size_bytes: int,
        specs: tuple[object, object],
    ) -> None:
        described = tuple(
            (name, datatypes.datatype_of(array), array.shape, array.nbytes)
            for name, array in request.tensors.items()
        )
        # Texts are longer on the wire than in their array, and data that stands in the JSON is not behind it.
        if any(datatype == datatypes.TEXT for _, datatype, _, _ in described):
            return
        if sum(size for *_, size in described) != size_bytes:
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        said = replace(request, tensors={}, parameters=dict(request.parameters))
        self._known[key] = _Known(said, described, size_bytes, specs)
