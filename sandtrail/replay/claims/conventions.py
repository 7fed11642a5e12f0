"""What instrumentations call things, one table a convention: attribute -> the field of a claim that it fills.

The tables are read together, in this order, and the first that fills a field has it: senders mix them. A target that
ends in `[]` is a list of messages; `.*` stands for a number. Sources:

- genai: OpenTelemetry semantic-conventions-genai (from 1.37 on), MCP's attributes among them
- genai-1.36: the same before 1.37: gen_ai.system, and a message an event (the event's name says whose)
- openllmetry: Traceloop's, before it took up the former: gen_ai.prompt.N…, llm.*, traceloop.*
- openinference: Arize's: openinference.span.kind, llm.input_messages.N…, tool.*, input.value
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["CONVENTIONS", "DETAILS_EVENTS", "MESSAGE_EVENTS", "Convention"]


@dataclass(frozen=True, slots=True)
class Convention:
    """`fields`: attribute -> field. `messages`: beginning of indexed attributes -> list of messages. `parts`: what
    follows the index -> place in the message. `operations`: what stands for an operation -> its name."""

    name: str
    fields: Mapping[str, str]
    messages: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    operations: Mapping[str, str] = field(default_factory=dict)


GENAI: Final = Convention(
    "genai",
    {
        "gen_ai.operation.name": "operation",
        "gen_ai.provider.name": "provider",
        "gen_ai.request.model": "model",
        "gen_ai.response.model": "response_model",
        "gen_ai.response.id": "response_id",
        "gen_ai.response.finish_reasons": "finish_reasons",
        "gen_ai.conversation.id": "conversation",
        "gen_ai.agent.id": "agent.id",
        "gen_ai.agent.name": "agent.name",
        "gen_ai.workflow.name": "workflow",
        "gen_ai.system_instructions": "input[]",
        "gen_ai.input.messages": "input[]",
        "gen_ai.output.messages": "output[]",
        "gen_ai.tool.name": "tool.name",
        "gen_ai.tool.type": "tool.type",
        "gen_ai.tool.call.id": "tool.id",
        "gen_ai.tool.call.arguments": "tool.arguments",
        "gen_ai.tool.call.result": "tool.result",
        "gen_ai.usage.input_tokens": "usage.input",
        "gen_ai.usage.output_tokens": "usage.output",
        "gen_ai.usage.cache_read.input_tokens": "usage.cache_read",
        "gen_ai.usage.cache_write.input_tokens": "usage.cache_write",
        "gen_ai.usage.reasoning.output_tokens": "usage.reasoning",
        "error.type": "error",
        "exception.message": "error",
        "mcp.method.name": "mcp.method",
        "mcp.session.id": "mcp.session",
        "mcp.resource.uri": "mcp.resource",
        "jsonrpc.request.id": "mcp.request",
        "server.address": "server",
    },
)
GENAI_OLD: Final = Convention(
    "genai-1.36",
    {
        "gen_ai.system": "provider",
        "gen_ai.usage.prompt_tokens": "usage.input",
        "gen_ai.usage.completion_tokens": "usage.output",
        "gen_ai.prompt": "input[]",
        "gen_ai.completion": "output[]",
        "gen_ai.openai.response.system_fingerprint": "fingerprint",
    },
)
OPENLLMETRY: Final = Convention(
    "openllmetry",
    {
        "llm.request.type": "operation",
        "traceloop.span.kind": "operation",
        "traceloop.entity.name": "entity",
        "traceloop.entity.input": "value.input",
        "traceloop.entity.output": "value.output",
        "traceloop.workflow.name": "workflow",
        "traceloop.association.properties.session_id": "conversation",
        "llm.usage.total_tokens": "usage.total",
        "gen_ai.usage.total_tokens": "usage.total",
        "gen_ai.is_streaming": "streamed",
        "llm.is_streaming": "streamed",
    },
    {"gen_ai.prompt": "input[]", "gen_ai.completion": "output[]"},
    {
        "role": "role",
        "content": "text",
        "tool_call_id": "tool_call_id",
        "finish_reason": "finish_reason",
        "tool_calls.*.id": "tool_calls.*.id",
        "tool_calls.*.name": "tool_calls.*.name",
        "tool_calls.*.arguments": "tool_calls.*.arguments",
        "function_call.name": "tool_calls.0.name",
        "function_call.arguments": "tool_calls.0.arguments",
    },
    {
        "completion": "text_completion",
        "embedding": "embeddings",
        "rerank": "rerank",
        "tool": "execute_tool",
        "agent": "invoke_agent",
        "workflow": "invoke_workflow",
        "task": "task",
    },
)
OPENINFERENCE: Final = Convention(
    "openinference",
    {
        "openinference.span.kind": "operation",
        "llm.provider": "provider",
        "llm.system": "provider",
        "llm.model_name": "response_model",
        "llm.finish_reason": "finish_reasons",
        "llm.token_count.prompt": "usage.input",
        "llm.token_count.completion": "usage.output",
        "llm.token_count.total": "usage.total",
        "llm.token_count.prompt_details.cache_read": "usage.cache_read",
        "llm.token_count.completion_details.reasoning": "usage.reasoning",
        "session.id": "conversation",
        "agent.name": "agent.name",
        "graph.node.id": "agent.id",
        "tool.name": "tool.name",
        "tool.id": "tool.id",
        "tool_call.id": "tool.id",
        "tool_call.function.name": "tool.name",
        "tool_call.function.arguments": "tool.arguments",
        "tool.parameters": "tool.arguments",
        "input.value": "value.input",
        "output.value": "value.output",
    },
    {"llm.input_messages": "input[]", "llm.output_messages": "output[]"},
    {
        "message.role": "role",
        "message.content": "text",
        "message.contents.*.message_content.text": "text",
        "message.tool_call_id": "tool_call_id",
        "message.finish_reason": "finish_reason",
        "message.tool_calls.*.tool_call.id": "tool_calls.*.id",
        "message.tool_calls.*.tool_call.function.name": "tool_calls.*.name",
        "message.tool_calls.*.tool_call.function.arguments": "tool_calls.*.arguments",
        "message.function_call_name": "tool_calls.0.name",
        "message.function_call_arguments_json": "tool_calls.0.arguments",
    },
    {
        "LLM": "chat",
        "TOOL": "execute_tool",
        "AGENT": "invoke_agent",
        "EMBEDDING": "embeddings",
        "RETRIEVER": "retrieval",
        "CHAIN": "chain",
        "RERANKER": "rerank",
        "GUARDRAIL": "guardrail",
        "EVALUATOR": "evaluation",
        "PROMPT": "prompt",
    },
)
CONVENTIONS: Final = (GENAI, GENAI_OLD, OPENLLMETRY, OPENINFERENCE)

MESSAGE_EVENTS: Final = {
    "gen_ai.system.message": ("input[]", "system"),
    "gen_ai.user.message": ("input[]", "user"),
    "gen_ai.assistant.message": ("input[]", "assistant"),
    "gen_ai.tool.message": ("input[]", "tool"),
    "gen_ai.choice": ("output[]", "assistant"),
}
"""Events before 1.37 that are one message each: where it goes, and whose it is where it does not say."""
DETAILS_EVENTS: Final = frozenset(
    {"gen_ai.client.inference.operation.details", "gen_ai.content.prompt", "gen_ai.content.completion", "exception"}
)
"""Events whose attributes are read as if they were the span's."""
