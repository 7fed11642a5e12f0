"""Inputs of the shape that the targets of Anthropic's, Gemini's and Bedrock's APIs read: where a fuzzer begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.boundary.scripted.bedrock import message

__all__ = ["OTHERS", "VENDORS"]

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

OTHERS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "litellm": (
        b'0{"id":"c","litellm_call_id":"1","call_type":"acompletion","status":"success","startTime":1.5,"endTime":2.5,'
        b'"model_group":"m","api_base":"http://h/v1","messages":[{"role":"user","content":"x"}],"model_parameters":'
        b'{"tools":[{"type":"function","function":{"name":"f"}}]},"response":{"id":"c","choices":[{"index":0,'
        b'"message":{"content":"x","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]}}]}}',
        b'0{"litellm_call_id":"2","call_type":"aresponses","startTime":1,"messages":"x","response":{"output":[]}}',
        b'0{"litellm_call_id":"3","call_type":"completion","startTime":1,"messages":[],"status":"failure",'
        b'"error_str":"x","error_information":{"error_code":"429","normalized_error":"429_RATE"}}',
        b'0{"litellm_call_id":"4","call_type":"anthropic_messages","startTime":1,"messages":[],"response":'
        b'{"type":"message","content":[{"type":"text","text":"x"}]}}',
    ),
    "envoy": (
        b'0{"start_time":"2020-08-22T16:35:27.125Z","method":"GET","authority":"h","path":"/i","response_code":"504",'
        b'"response_flags":"UT","bytes_received":"0","bytes_sent":"24","duration":"503","upstream_host":"10.1.0.68:1"}',
        b"1\x0a\x0c\x0a\x06\x0a\x01a\x12\x01b\x12\x02lo\x12\x27\x0a\x25\x0a\x11\x2a\x02\x08\x05"
        b"\x7a\x01c\x82\x01\x02\x18\x01\xba\x01\x02\x08\x01"
        b"\x10\x02\x1a\x08\x08\x03\x1a\x01h\x2a\x01/\x22\x04\x0a\x02\x08\x01",
        b"1\x1a\x0c\x0a\x0a\x0a\x02\x7a\x00\x12\x04\x08\x05\x10\x06",
    ),
    "hubble": (
        b'0{"flow":{"time":"2023-08-21T12:12:18.510175415Z","verdict":"DROPPED","IP":{"source":"10.2.1.6","destination":'
        b'"10.2.1.5"},"l4":{"TCP":{"source_port":449,"destination_port":80}},"source":{"pod_name":"x"},"destination":'
        b'{"labels":["reserved:world"]},"destination_names":["h"],"drop_reason_desc":"POLICY_DENIED"}}',
        b'0{"flow":{"verdict":"FORWARDED","l7":{"type":"RESPONSE","dns":{"query":"h.","ips":["1.2.3.4"],"rcode":3}}}}',
        b'0{"flow":{"l7":{"type":"REQUEST","latency_ns":"5","http":{"code":200,"method":"GET","url":"http://h/"}}}}',
        b'0{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"1"},"node_name":"n","time":"2025-09-28T08:25:44Z"}',
    ),
    "lines": (b'{\n    "a": [\n        1\n    ]\n}\nx\n{"b": 1} {"c": 2}\n[{"d": 3}, 4]\n{\n}\n{\nx', b"\n{\n \n"),
}
"""Records of gateways that are not ours, after a byte that says in which of their forms."""
