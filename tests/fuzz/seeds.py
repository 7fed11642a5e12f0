"""Inputs of the shape that the targets of Anthropic's, Gemini's and Bedrock's APIs read: where a fuzzer begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.boundary.scripted.bedrock import message

__all__ = ["VENDORS"]

VENDORS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "anthropic_messages": (
        b'\0\0\0{"model":"m","system":[{"type":"text","text":"s"}],"tools":[{"name":"f"}],"messages":[{"role":"user","content":'
        b'[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"x"}],"is_error":true},{"type":"document",'
        b'"source":{"type":"text","data":"x"}}]},{"role":"assistant","content":[{"type":"server_tool_use","id":"s","name":"n",'
        b'"input":{}},{"type":"web_search_tool_result","tool_use_id":"s","content":[]}]}]}\0{"type":"message","id":"m",'
        b'"role":"assistant","content":[{"type":"text","text":"x"},{"type":"tool_use","id":"t","name":"f","input":{}}],'
        b'"stop_reason":"tool_use","usage":{}}',
        b'\0\1\0{"messages":[]}\0event: message_start\ndata: {"type":"message_start","message":{"content":[]}}\n\n'
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f"}}\n\n'
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}\n\n'
        b'data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"x"}}\n\n'
        b'data: {"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{}}}\n\n'
        b'data: {"type":"content_block_delta","index":1,"delta":{"type":"signature_delta","signature":"x"}}\n\n'
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}\n\n'
        b'data: {"type":"error","error":{"message":"x"}}\n\ndata: {"type":"message_stop"}\n\n',
    ),
    "anthropic_vertex": (b'\0\0\0{"anthropic_version":"v","messages":[]}\0[{"error":{"message":"x"}}]',),
    "gemini": (
        b'\0\0\0{"systemInstruction":{"parts":[{"text":"s"}]},"tools":[{"functionDeclarations":[{"name":"f"}]}],"contents":'
        b'[{"role":"model","parts":[{"functionCall":{"name":"f","args":{}}}]},{"parts":[{"functionResponse":{"name":"f",'
        b'"response":{"output":"x"}}},{"inlineData":{"mimeType":"x"}}]}]}\0[{"candidates":[{"index":0,"content":{"parts":['
        b'{"text":"x","thought":true},{"functionCall":{"name":"f","willContinue":true}}]}}]},{"candidates":[{"content":{"parts":'
        b'[{"functionCall":{"partialArgs":[{"jsonPath":"$.a[0].b","stringValue":"x"}]}}]},"finishReason":"STOP"}],'
        b'"promptFeedback":{"blockReason":"x"}}]',
        b'\0\1\0{"request":{"contents":[]},"model":"m"}\0data: {"response":{"candidates":[{"content":{"parts":['
        b'{"executableCode":{"code":"x"}},{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"x"}}]}}]}}\n\n',
    ),
    "bedrock_converse": (
        b'\0\4\0{"system":[{"text":"s"}],"toolConfig":{"tools":[{"toolSpec":{"name":"f"}}]},"messages":[{"role":"user","content":'
        b'[{"toolResult":{"toolUseId":"t","content":[{"json":{}}],"status":"error"}}]}]}\0'
        + message({":event-type": "messageStart", ":message-type": "event"}, b'{"role":"assistant"}')
        + message({":event-type": "contentBlockDelta"}, b'{"contentBlockIndex":0,"delta":{"text":"x"}}'),
        b'\0\0\0{"messages":[]}\0{"output":{"message":{"content":[{"toolUse":{"toolUseId":"t","name":"f","input":{}}},'
        b'{"reasoningContent":{"reasoningText":{"text":"x"}}},{"citationsContent":{"content":[{"text":"x"}]}}]}},"usage":{}}',
    ),
    "bedrock_invoke": (
        b'\0\0\0{"prompt":"x"}\0{"results":[{"outputText":"x","completionReason":"y"}]}',
        b'\0\0\0{"message":"x"}\0{"text":"x","tool_calls":[{"name":"f","parameters":{}}]}',
        b'\0\4\0{"messages":[]}\0' + message({":event-type": "chunk"}, b'{"bytes":"eyJnZW5lcmF0aW9uIjoieCJ9"}'),
    ),
    "bedrock_converse_events": (
        b'{"messages":[]}\x00\x00{"role":"assistant"}\x00\x01{"contentBlockIndex":0,"start":{"toolUse":{"toolUseId":"t","name":"f"}}}'
        b'\x00\x02{"contentBlockIndex":0,"delta":{"toolUse":{"input":"{}"}}}\x00\x02{"contentBlockIndex":1,"delta":'
        b'{"reasoningContent":{"text":"x","signature":"y"},"citation":{},"toolResult":[{"text":"x"}]}}'
        b'\x00\x03{"stopReason":"end_turn"}\x00\x04{"usage":{}}\x00\x06{"message":"x"}',
    ),
    "bedrock_invoke_chunks": (
        b'{"anthropic_version":"x","messages":[]}\x00\x05{"type":"message_start","message":{"content":[]}}\x00\x05{"type":'
        b'"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}\x00\x05{"type":"message_stop"}',
        b'{"messages":[]}\x00\x05{"choices":[{"index":0,"delta":{"content":"x"}}]}',
        b'{"messages":[]}\x00\x05{"messageStart":{}}\x00\x05{"contentBlockDelta":{"delta":{"text":"x"}}}',
        b'{"prompt":"x"}\x00\x05{"outputText":"x"}\x00\x05{"completion":"x","stop_reason":"y"}',
    ),
}
