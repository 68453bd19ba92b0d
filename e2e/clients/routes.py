"""The default routes as the user document and the wire contract list them, written down apart from the product's own table."""

import dataclasses

ALL = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclasses.dataclass(frozen=True)
class Route:
    path: str
    methods: tuple[str, ...] = ("POST",)
    type: str = "Exact"


def manage(path: str) -> Route:
    return Route(path, ALL, "Prefix")


def get(path: str) -> Route:
    return Route(path, ("GET",), "Template" if "{" in path else "Exact")


AIGC = "/api/v1/services/aigc/"

# What one scenario and protocol brings. /v1/responses is an addition to the document's two text routes.
DEFAULT_ROUTES: dict[tuple[str, str], list[Route]] = {
    ("Text", "OpenAI/v1"): [Route("/v1/chat/completions"), Route("/v1/completions"), Route("/v1/responses")],
    ("Text", "Anthropic"): [Route("/v1/messages")],
    ("Image", "DashScope"): [
        Route(AIGC + "text2image/image-synthesis"), Route(AIGC + "image2image/image-synthesis"),
        Route(AIGC + "image2image/out-painting"), Route(AIGC + "virtualmodel/generation"),
        Route(AIGC + "background-generation/generation"), manage("/api/v1/tasks"),
    ],
    ("Image", "OpenAI/v1"): [Route("/v1/images/generations"), Route("/v1/images/edits"), Route("/v1/images/variations")],
    ("Image", "ComfyUI"): [
        get("/ws"), get("/embeddings"), get("/extensions"), get("/features"), get("/models"), get("/models/{folder}"),
        get("/workflow_templates"), Route("/upload/image"), Route("/upload/mask"), get("/view"),
        get("/view_metadata/{folder_name}"), get("/system_stats"), Route("/prompt", ("GET", "POST")), get("/object_info"),
        get("/object_info/{node_class}"), Route("/history", ("GET", "POST")), get("/history/{prompt_id}"),
        Route("/queue", ("GET", "POST")), Route("/interrupt"), Route("/free"), get("/userdata"), get("/v2/userdata"),
        Route("/userdata/{file}", ("GET", "POST", "DELETE"), "Template"),
        Route("/userdata/{file}/move/{dest}", ("POST",), "Template"), Route("/users", ("GET", "POST")),
    ],
    ("Video", "DashScope"): [
        Route(AIGC + "video-generation/video-synthesis"), Route(AIGC + "image2video/video-synthesis"), manage("/api/v1/tasks"),
    ],
    ("Audio", "DashScope"): [get("/api-ws/v1/inference")],
    ("Audio", "OpenAI/v1"): [Route("/v1/audio/speech")],
    ("Embedding", "OpenAI/v1"): [Route("/v1/embeddings")],
    ("Rerank", "DashScope"): [Route("/api/v1/services/rerank/text-rerank/text-rerank")],
    ("Rerank", "vLLM"): [Route("/v1/rerank")],
    ("Others", "OpenAI/v1"): [manage("/v1/models"), manage("/v1/files"), manage("/v1/batches"), manage("/v1/fine_tuning/jobs")],
}
