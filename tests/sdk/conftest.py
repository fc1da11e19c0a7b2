import pytest
from openai import OpenAI

import scripted_engine
from network import Network


@pytest.fixture(scope="session")
def engine():
    server = scripted_engine.start()
    yield server
    server.shutdown()


@pytest.fixture(scope="session")
def network(engine, tmp_path_factory):
    url = f"http://127.0.0.1:{engine.server_address[1]}"
    network = Network(tmp_path_factory.mktemp("network"), "--backend", url)
    yield network
    assert network.stop() == 0


@pytest.fixture(scope="session")
def openai(network):
    # No retries: a test must see the first answer.
    return OpenAI(base_url=f"http://{network.client}/v1", api_key="unused", max_retries=0)
