"""The official OpenAI SDK against a whole network: what it sends arrives, what the engine says comes back."""

import asyncio

import openai as sdk
import pytest
from pydantic import BaseModel

from scripted_engine import MODEL, words


def ask(text):
    return [{"role": "user", "content": text}]


def test_chat(openai):
    answer = openai.chat.completions.create(model=MODEL, messages=ask("say 5"))
    assert answer.choices[0].message.content == "".join(words(5))
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 5, 12)
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert answer.usage.completion_tokens_details.reasoning_tokens == 1


def test_streaming_with_usage(openai):
    stream = openai.chat.completions.create(
        model=MODEL, messages=ask("say 20"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content] == words(20)
    assert chunks[-1].usage.completion_tokens == 20
    assert chunks[-1].choices == []


def test_every_legal_field_reaches_the_engine(openai, engine):
    openai.chat.completions.create(
        model=MODEL,
        messages=ask("say 5"),
        seed=42,
        temperature=0.5,
        top_p=0.9,
        stop=["x"],
        logit_bias={"50": -100},
        user="someone",
        logprobs=True,
        top_logprobs=2,
        extra_body={"top_k": 7, "repetition_penalty": 1.125},
    )
    received = engine.last_request
    assert received["seed"] == 42 and received["temperature"] == 0.5 and received["top_p"] == 0.9
    assert received["stop"] == ["x"] and received["logit_bias"] == {"50": -100} and received["user"] == "someone"
    assert received["logprobs"] is True and received["top_logprobs"] == 2
    assert received["top_k"] == 7 and received["repetition_penalty"] == 1.125
    assert received["max_tokens"] == 4096, "without a limit the client's default goes into the body"


def test_logprobs(openai):
    answer = openai.chat.completions.create(model=MODEL, messages=ask("say 5"), logprobs=True)
    assert answer.choices[0].logprobs.content[0].logprob == -0.25


def test_tools(openai, engine):
    tools = [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Weather of a city",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            },
        }
    ]
    answer = openai.chat.completions.create(model=MODEL, messages=ask("weather?"), tools=tools, tool_choice="auto")
    assert engine.last_request["tools"] == tools and engine.last_request["tool_choice"] == "auto"
    call = answer.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Dubai"}')
    assert answer.choices[0].finish_reason == "tool_calls"


class Network(BaseModel):
    name: str
    roles: int


def test_json_schema_output(openai, engine):
    answer = openai.chat.completions.parse(model=MODEL, messages=ask("describe"), response_format=Network)
    assert answer.choices[0].message.parsed == Network(name="Cocoon", roles=3)
    assert engine.last_request["response_format"]["type"] == "json_schema"
    assert engine.last_request["response_format"]["json_schema"]["strict"] is True


def test_completions(openai):
    answer = openai.completions.create(model=MODEL, prompt="once", max_tokens=3)
    assert answer.choices[0].text == "".join(words(3))
    assert answer.usage.completion_tokens == 3


def test_models(openai):
    models = openai.models.list().data
    assert [model.id for model in models] == [MODEL]
    assert models[0].workers[0]["coefficient"] == 1000
    assert openai.models.retrieve(MODEL).id == MODEL


def test_unknown_model_is_refused(openai):
    with pytest.raises(sdk.NotFoundError) as refusal:
        openai.chat.completions.create(model="nobody/serves-this", messages=ask("hi"))
    assert refusal.value.code == "model_not_found"
    with pytest.raises(sdk.NotFoundError):
        openai.models.retrieve("nobody/serves-this")


def test_the_engines_refusal_comes_back_as_it_is(openai):
    with pytest.raises(sdk.BadRequestError) as refusal:
        openai.chat.completions.create(model=MODEL, messages=ask("be refused"))
    assert refusal.value.param == "top_k" and refusal.value.code == "bad_value"
    assert "got -3" in refusal.value.message


def test_a_wrong_limit_is_refused_by_name(openai):
    with pytest.raises(sdk.BadRequestError) as refusal:
        openai.chat.completions.create(model=MODEL, messages=ask("hi"), max_tokens=-1)
    assert refusal.value.param == "max_tokens"


def test_a_price_ceiling_below_every_worker_is_refused(openai):
    with pytest.raises(sdk.APIStatusError) as refusal:
        openai.chat.completions.create(model=MODEL, messages=ask("hi"), extra_body={"max_coefficient": 1})
    assert "1000" in refusal.value.message, "the refusal names the price that would do"


def test_cocoon_extras_do_not_reach_the_engine(openai, engine):
    extras = {"max_coefficient": 2000, "timeout": 30, "enable_debug": True, "request_guid": "guid-1"}
    answer = openai.chat.completions.create(model=MODEL, messages=ask("say 5"), extra_body=extras)
    assert not set(extras) & set(engine.last_request)
    assert {"client", "proxy", "worker"} <= set(answer.debug)


def test_unknown_paths_are_refused(openai):
    with pytest.raises(sdk.NotFoundError):
        openai.embeddings.create(model=MODEL, input="text")


def test_a_hundred_streams_side_by_side(openai, network):
    def totals():
        stats = network.stats("proxy")
        used = sum(client["used_tokens"] for client in stats["clients"])
        return used, sum(worker["earned_tokens"] for worker in stats["workers"])

    async def one(client):
        stream = await client.chat.completions.create(
            model=MODEL, messages=ask("say 64"), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
        return text, chunks[-1].usage

    async def all_of_them():
        async with sdk.AsyncOpenAI(base_url=openai.base_url, api_key="unused", max_retries=0) as client:
            return await asyncio.gather(*(one(client) for _ in range(100)))

    before = totals()
    for text, usage in asyncio.run(all_of_them()):
        assert text == words(64), "no token lost, repeated or reordered"
        assert (usage.prompt_tokens, usage.completion_tokens) == (7, 64)
    after = totals()
    # Coefficient and multipliers are 1: adjusted tokens are tokens.
    assert after[0] - before[0] == 100 * (7 + 64), "clients are charged what the engine counted"
    assert after[0] == after[1], "in tokens, clients pay what workers earn"
