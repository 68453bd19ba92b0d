"""The older official core, which signs ROA-V1: what clients generated before ACS3 are built on."""

import json

import pytest
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.request import RoaRequest

from installation import REGION


@pytest.fixture
def call(installation):
    def one(action: str, method: str, pattern: str, body: dict | None = None, query: dict | None = None, secret: str | None = None, **path: str):
        request = RoaRequest("apig", "2024-03-27", action, method=method, uri_pattern=pattern, path_params=path or None, protocol="http")
        request.endpoint = installation.endpoint.removeprefix("http://")
        request.set_accept_format("JSON")
        for name, value in (query or {}).items():
            request.add_query_param(name, value)
        if body is not None:
            request.set_content_type("application/json")
            request.set_content(json.dumps(body).encode())
        client = AcsClient(installation.access_key_id, secret or installation.access_key_secret, REGION, auto_retry=False)
        answer = json.loads(client.do_action_with_exception(request))
        assert (answer["code"], answer["message"]) == ("Ok", "success")
        return answer.get("data")

    return one


def test_a_domain_is_made_found_changed_and_deleted(call):
    made = call("CreateDomain", "POST", "/v1/domains", {"name": "old.example.com", "protocol": "HTTP"})["domainId"]
    assert call("GetDomain", "GET", "/v1/domains/[domainId]", domainId=made)["name"] == "old.example.com"
    listed = call("ListDomains", "GET", "/v1/domains", query={"nameLike": "old.example", "pageSize": "10", "pageNumber": "1"})
    assert [d["domainId"] for d in listed["items"]] == [made]
    call("UpdateDomain", "PUT", "/v1/domains/[domainId]", {"protocol": "HTTP", "http2Option": "Close"}, domainId=made)
    assert call("GetDomain", "GET", "/v1/domains/[domainId]", domainId=made)["http2Option"] == "Close"
    call("DeleteDomain", "DELETE", "/v1/domains/[domainId]", domainId=made)
    with pytest.raises(ServerException) as raised:
        call("GetDomain", "GET", "/v1/domains/[domainId]", domainId=made)
    assert (raised.value.http_status, raised.value.error_code) == (404, "DatabaseError.RecordNotFound")
    assert raised.value.request_id


def test_a_wrong_secret_is_refused(call):
    with pytest.raises(ServerException) as raised:
        call("ListDomains", "GET", "/v1/domains", secret="not-the-secret")
    assert (raised.value.http_status, raised.value.error_code) == (403, "SignatureDoesNotMatch")
