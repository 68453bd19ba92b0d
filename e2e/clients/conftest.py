"""What the tests share: one installation, what stands behind it, and the official clients of its control plane."""

import shutil
from collections.abc import Callable, Iterator

import pytest
from alibabacloud_apig20240327.client import Client as ApigClient
from alibabacloud_gpdb20160503.client import Client as GpdbClient

import answers
import control
from installation import Aimock, Installation, new_directory
from publisher import UPSTREAM_KEY, UPSTREAM_MODEL, Published, Publisher
from recorder import Recorder

COOKIE = "session=a-cookie-of-the-consumer"


@pytest.fixture(scope="session")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder(answers.answer, answers.talk)
    yield recorder
    recorder.stop()


@pytest.fixture(scope="session")
def directory() -> Iterator:
    directory = new_directory()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def aimock(directory) -> Iterator[Aimock]:
    aimock = Aimock(directory, UPSTREAM_KEY)
    yield aimock
    aimock.stop()


@pytest.fixture(scope="session")
def installation(request: pytest.FixtureRequest, directory, recorder: Recorder, aimock: Aimock) -> Iterator[Installation]:
    installation = Installation(directory, recorder.authority, aimock.authority)
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


@pytest.fixture(scope="session")
def upstream_model() -> str:
    return UPSTREAM_MODEL
