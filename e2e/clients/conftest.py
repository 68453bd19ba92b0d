"""What the tests share: one installation, what stands behind it, and the official clients of its control plane."""

import gc
import importlib.metadata
import logging
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterator

import pytest
from alibabacloud_apig20240327.client import Client as ApigClient
from alibabacloud_gpdb20160503.client import Client as GpdbClient
from alibabacloud_gpdb20160503.models import CreateModelServiceRequest, DescribeModelServiceRequest, ListAINodePoolsRequest

import answers
import control
from faulty import Faulty
from installation import Aimock, Installation, eventually, new_directory
from publisher import UPSTREAM_KEY, Published, Publisher
from recorder import Recorder

ENGINE_MODEL = "Qwen3-0.6B"
COOKIE = "session=a-cookie-of-the-consumer"


CLIENTS = ("alibabacloud-apig20240327", "alibabacloud-gpdb20160503", "aliyun-python-sdk-core", "openai", "anthropic", "dashscope")


def pytest_configure() -> None:
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it reports, at the very end, what dashscope leaves open


def pytest_report_header() -> str:
    return "clients: " + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in CLIENTS)


def pytest_collection_finish() -> None:
    gc.freeze()  # the clients are large: to go through them would stop the services of this process for most of a second


@pytest.fixture(scope="session")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder(answers.answer, answers.talk)
    yield recorder
    recorder.stop()


@pytest.fixture(scope="session")
def faulty() -> Iterator[Faulty]:
    faulty = Faulty()
    yield faulty
    faulty.stop()


@pytest.fixture(scope="session")
def directory() -> Iterator[pathlib.Path]:
    directory = new_directory()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def aimock(directory: pathlib.Path) -> Iterator[Aimock]:
    aimock = Aimock(directory, UPSTREAM_KEY)
    yield aimock
    aimock.stop()


@pytest.fixture(scope="session")
def installation(
    request: pytest.FixtureRequest, directory: pathlib.Path, recorder: Recorder, faulty: Faulty, aimock: Aimock,
) -> Iterator[Installation]:
    installation = Installation(directory, recorder.authority, faulty.authority, faulty.refusing_authority, aimock.authority)
    yield installation
    installation.stop()
    if request.session.testsfailed:
        print(installation.last_words())


@pytest.fixture(scope="session")
def apig(installation: Installation) -> ApigClient:
    return control.apig_client(installation)


@pytest.fixture(scope="session")
def gpdb(installation: Installation) -> GpdbClient:
    return control.gpdb_client(installation)


@pytest.fixture(scope="session")
def unbound_nodes(gpdb: GpdbClient, installation: Installation) -> Callable[[], list[str]]:
    """Asks for the AI nodes that no model service uses; the first start of an installation simulates a few."""

    def names() -> list[str]:
        pools = gpdb.list_ainode_pools(ListAINodePoolsRequest(dbinstance_id=installation.instance)).body
        found = [node.node_name for pool in pools.ainode_pool_infos for node in pool.ainode_infos if node.bind_status == "unbound"]
        assert found, pools
        return found

    return names


@pytest.fixture(scope="session")
def model_service(gpdb: GpdbClient, installation: Installation, unbound_nodes) -> str:
    """A model service of two replicas that is active."""
    service = gpdb.create_model_service(CreateModelServiceRequest(
        dbinstance_id=installation.instance, model_name=ENGINE_MODEL, ai_nodes=unbound_nodes()[:2], replicas=2)).body.model_service_id
    asked = DescribeModelServiceRequest(dbinstance_id=installation.instance, model_service_id=service)
    eventually("the model service is active", lambda: gpdb.describe_model_service(asked).body.status == "active", 40)
    return service


@pytest.fixture(scope="session")
def publisher(installation: Installation, apig: ApigClient) -> Iterator[Publisher]:
    publisher = Publisher(installation, apig)
    yield publisher
    publisher.close()


@pytest.fixture(scope="session")
def recorded(publisher: Publisher, recorder: Recorder) -> Callable[[str, str], Published]:
    """The API of a scenario and protocol over the recorder, published when it is first asked for."""
    service = publisher.ai_service(recorder.url)
    published: dict[tuple[str, str], Published] = {}

    def of(category: str, protocol: str) -> Published:
        if (category, protocol) not in published:
            published[category, protocol] = publisher.publish(category, protocol, service)
        return published[category, protocol]

    return of


@pytest.fixture
def upstream(recorder: Recorder, publisher: Publisher) -> Iterator[Recorder]:
    """The recorder, empty. After the test: nothing of the consumer's got there, and the service's own key did."""
    recorder.forget()
    yield recorder
    received = recorder.all()
    assert received, "the test did not reach the upstream"
    for got in received:
        assert not got.holds(publisher.consumer.key), f"the consumer's key reached the upstream of {got.method} {got.path}"
        assert not got.holds("a-cookie-of-the-consumer"), f"a cookie reached the upstream of {got.method} {got.path}"
        assert got.header("Cookie") is None
        assert got.holds(UPSTREAM_KEY), f"{got.method} {got.path} came without the service's key"


@pytest.fixture
def permits(upstream: Recorder) -> Iterator[threading.Semaphore]:
    """Holds every event of a stream back until the test permits it."""
    upstream.permits = threading.Semaphore(0)
    yield upstream.permits
    upstream.permits = None
