"""What crosses the boundary to a model: HTTP exchanges in, model calls out.

A decoder takes one whole or cut-off HTTP exchange and says what the model was shown and what it answered. Decoders
never raise on what they are given: whatever is missing or not understood is named in `ModelCall.problems`.
"""

from sandtrail.replay.models.call import Message, ModelCall, ToolCall
from sandtrail.replay.models.exchange import Assembler, Exchange
from sandtrail.replay.models.registry import decode_exchange

__all__ = ["Assembler", "Exchange", "Message", "ModelCall", "ToolCall", "decode_exchange"]
