-- +goose Up

-- What happened to model services, for people. Events outlive their service, and are dropped by age and number.
CREATE TABLE model_service_event (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id       text NOT NULL,
    db_instance_id   text NOT NULL,
    model_service_id text NOT NULL,
    at               timestamptz NOT NULL DEFAULT now(),
    kind             text NOT NULL CHECK (kind IN ('state', 'replica', 'placement', 'change')),
    message          text NOT NULL
);
CREATE INDEX model_service_event_service ON model_service_event (model_service_id, id);
CREATE INDEX model_service_event_at ON model_service_event (at);

-- The end of an engine's log, written by its host while somebody asks for it: a host cannot be reached from elsewhere.
CREATE TABLE replica_log (
    replica_id   text PRIMARY KEY REFERENCES replica ON DELETE CASCADE,
    wanted_until timestamptz NOT NULL,
    read_at      timestamptz,              -- NULL: the host has not answered yet
    generation   bigint NOT NULL DEFAULT 0, -- of the engine that wrote it
    offset_bytes bigint NOT NULL DEFAULT 0, -- how much that engine has written so far
    previous     text NOT NULL DEFAULT '',  -- the end of the log of the engine before
    log          text NOT NULL DEFAULT ''
);

-- +goose Down
DROP TABLE replica_log, model_service_event;
