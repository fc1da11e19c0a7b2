"""The network in front of a real engine program: with greedy decoding, asking through Cocoon and asking the
engine directly give the same answer."""

import json
import pathlib
import subprocess
import sys
import threading

import pytest
from openai import OpenAI

from network import Network

ROOT = pathlib.Path(__file__).parents[2]
MODEL = "cocoon-demo"
GREEDY = {"model": MODEL, "temperature": 0, "max_tokens": 96}


def question(text):
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def engine_url():
    command = [sys.executable, str(ROOT / "tests/sdk/real_engine.py"), str(ROOT / "crates/engine/demo/cocoon-demo.gguf")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    url = process.stdout.readline().strip()
    assert url.startswith("http://"), "the engine program did not start"
    # The engine may print more; nobody reads it, and a full pipe would stop it.
    threading.Thread(target=process.stdout.read, daemon=True).start()
    yield url
    process.stdin.close()
    process.wait()


@pytest.fixture(scope="module")
def direct(engine_url):
    return OpenAI(base_url=f"{engine_url}/v1", api_key="unused", max_retries=0)


@pytest.fixture(scope="module")
def through_cocoon(engine_url, tmp_path_factory):
    network = Network(tmp_path_factory.mktemp("real"), "--backend", engine_url)
    yield OpenAI(base_url=f"http://{network.client}/v1", api_key="unused", max_retries=0)
    assert network.stop() == 0


@pytest.mark.parametrize("text", ["What is Cocoon?", "Who can read my prompt?", "What is a worker?", "hello"])
def test_greedy_answers_are_equal(direct, through_cocoon, text):
    expected = direct.chat.completions.create(messages=question(text), **GREEDY)
    answer = through_cocoon.chat.completions.create(messages=question(text), **GREEDY)
    assert answer.choices[0].message.content == expected.choices[0].message.content
    assert answer.choices[0].finish_reason == expected.choices[0].finish_reason
    assert answer.usage.completion_tokens == expected.usage.completion_tokens
    assert answer.usage.prompt_tokens == expected.usage.prompt_tokens


def test_streams_are_equal_and_metered(direct, through_cocoon):
    def collect(client):
        options = {"include_usage": True}
        chunks = list(client.chat.completions.create(messages=question("What is Cocoon?"), stream=True, stream_options=options, **GREEDY))
        text = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
        return text, chunks[-1].usage.completion_tokens

    assert collect(through_cocoon) == collect(direct)


def test_structured_output_is_enforced_by_the_engine(through_cocoon):
    schema = {"type": "object", "properties": {"role": {"enum": ["client", "proxy"]}}, "required": ["role"], "additionalProperties": False}
    response_format = {"type": "json_schema", "json_schema": {"name": "role", "strict": True, "schema": schema}}
    answer = through_cocoon.chat.completions.create(messages=question("Name a role."), response_format=response_format, **GREEDY)
    assert json.loads(answer.choices[0].message.content)["role"] in ("client", "proxy")


def test_the_embedded_engine_agrees_with_the_real_one(direct, tmp_path):
    network = Network(tmp_path)
    embedded = OpenAI(base_url=f"http://{network.client}/v1", api_key="unused", max_retries=0)
    text = "What is Cocoon?"
    expected = direct.chat.completions.create(messages=question(text), **GREEDY)
    answer = embedded.chat.completions.create(messages=question(text), **GREEDY)
    assert answer.choices[0].message.content == expected.choices[0].message.content
    assert answer.usage.prompt_tokens == expected.usage.prompt_tokens
    assert network.stop() == 0
