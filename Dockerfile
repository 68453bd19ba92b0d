# Engineshed's programs in one image, with the stand-in engine. For real engines build on an image that has vLLM, and say
# what starts it in VLLM_COMMAND:
#   docker build --build-arg BASE=vllm/vllm-openai:TAG .
ARG BASE=debian:12-slim

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -o /out/ ./cmd/...

FROM ${BASE}
# wget asks the programs' admin listeners whether they are ready.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates wget && rm -rf /var/lib/apt/lists/*
# 999 is who Postgres's image runs as: a new database reads its password from the folder of keys that this user made.
# A new named volume takes the owner of the folder it is mounted on, so that the folders are made here.
RUN groupadd --gid 999 engineshed && \
    useradd --uid 999 --gid 999 --no-create-home --home-dir /var/lib/engineshed --shell /usr/sbin/nologin engineshed && \
    install -d -o engineshed -g engineshed -m 0700 /keys/control /keys/gateway /keys/database \
        /var/lib/engineshed /var/lib/engineshed/worker /var/lib/engineshed/gateway
COPY --from=build /out/engineshed /out/controlplane /out/gateway /out/vllm-sim /usr/local/bin/
USER engineshed
ENTRYPOINT []
CMD ["engineshed", "--help"]
