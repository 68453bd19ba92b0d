-- +goose Up

-- One heartbeat row per worker host (written every 2 s). What a host last said of itself.
CREATE TABLE host (
    name         text PRIMARY KEY,
    engine_addr  text NOT NULL,                -- the address its engines listen on
    accelerators jsonb NOT NULL DEFAULT '[]',  -- [{"index":0,"name":"…","memoryMiB":…}]; empty: simulated nodes only
    started_at   timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL
);

CREATE TABLE db_instance (
    id                text PRIMARY KEY,
    account_id        text NOT NULL REFERENCES account,
    region_id         text NOT NULL,
    description       text NOT NULL DEFAULT '',
    resource_group_id text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX db_instance_account ON db_instance (account_id, created_at);

CREATE TABLE db_instance_tag (
    db_instance_id text NOT NULL REFERENCES db_instance ON DELETE CASCADE,
    key            text NOT NULL,
    value          text NOT NULL,
    PRIMARY KEY (db_instance_id, key)
);

-- Who may call: the array "default" of an instance, and one named like its id for a model service created with a list.
CREATE TABLE ip_array (
    db_instance_id text NOT NULL REFERENCES db_instance ON DELETE CASCADE,
    name           text NOT NULL,
    attribute      text NOT NULL DEFAULT '',
    entries        text[] NOT NULL,
    PRIMARY KEY (db_instance_id, name)
);

CREATE TABLE ai_node_pool (
    id             text PRIMARY KEY,
    db_instance_id text NOT NULL REFERENCES db_instance ON DELETE CASCADE,
    created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ai_node_pool_instance ON ai_node_pool (db_instance_id);

-- An AI node is one slot on one host: accelerators and the fraction of their memory it may use.
CREATE TABLE ai_node (
    name             text PRIMARY KEY,
    pool_id          text NOT NULL REFERENCES ai_node_pool ON DELETE CASCADE,
    db_instance_id   text NOT NULL REFERENCES db_instance ON DELETE CASCADE,
    host             text NOT NULL,
    node_spec        text NOT NULL,
    accelerators     integer[] NOT NULL DEFAULT '{}', -- empty: a simulated node
    memory_fraction  numeric NOT NULL DEFAULT 1 CHECK (memory_fraction > 0 AND memory_fraction <= 1),
    model_service_id text,                            -- set while a model service has bound the node
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ai_node_pool_nodes ON ai_node (pool_id);
CREATE INDEX ai_node_instance ON ai_node (db_instance_id);
CREATE INDEX ai_node_service ON ai_node (model_service_id) WHERE model_service_id IS NOT NULL;

CREATE TABLE model_service (
    id                text PRIMARY KEY,
    account_id        text NOT NULL REFERENCES account,
    db_instance_id    text NOT NULL REFERENCES db_instance,
    region_id         text NOT NULL,
    resource_group_id text NOT NULL,
    model_name        text NOT NULL,
    description       text NOT NULL DEFAULT '',
    model_params      jsonb NOT NULL DEFAULT '{}',
    replicas          integer NOT NULL CHECK (replicas BETWEEN 1 AND 1000),
    public            boolean NOT NULL DEFAULT false,
    api_key_sealed    bytea NOT NULL,
    status            text NOT NULL CHECK (status IN ('deploying', 'active', 'degraded', 'failed', 'deleting')),
    status_reason     text NOT NULL DEFAULT '',
    -- Grows with every change a gateway has to learn; published_item.source_version follows it.
    version           bigint NOT NULL DEFAULT 1,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX model_service_instance ON model_service (db_instance_id, created_at);

ALTER TABLE ai_node ADD FOREIGN KEY (model_service_id) REFERENCES model_service;

CREATE TABLE replica (
    id                text PRIMARY KEY,
    model_service_id  text NOT NULL REFERENCES model_service,
    ordinal           integer NOT NULL,
    node_name         text NOT NULL REFERENCES ai_node,
    host              text NOT NULL,
    status            text NOT NULL CHECK (status IN ('pending', 'starting', 'active', 'failed', 'removing')),
    status_reason     text NOT NULL DEFAULT '',
    engine_key_sealed bytea NOT NULL,          -- under the master key, for the worker
    published_key     bytea NOT NULL,          -- the same key under the snapshot key, for the gateways
    engine_addr       text NOT NULL DEFAULT '', -- host:port, written before the engine is started
    engine_generation bigint NOT NULL DEFAULT 0, -- the generation that started the engine, in its environment marker
    restarts          integer NOT NULL DEFAULT 0,
    restart_at        timestamptz,
    -- A step claims the lease and takes the next generation; every later write of the step names that generation,
    -- so a worker that was stopped and woke up late writes nothing.
    lease_owner       text NOT NULL DEFAULT '',
    lease_until       timestamptz NOT NULL DEFAULT '-infinity',
    generation        bigint NOT NULL DEFAULT 0,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (model_service_id, ordinal)
);
CREATE INDEX replica_host ON replica (host);

-- A ClientToken, claimed in the transaction of the resource it made. The claim outlives the resource.
CREATE TABLE client_token (
    account_id  text NOT NULL,
    region_id   text NOT NULL,
    action      text NOT NULL, -- product:Operation
    token       text NOT NULL,
    fingerprint bytea NOT NULL, -- SHA-256 of the typed parameters
    resource_id text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, region_id, action, token)
);
CREATE INDEX client_token_created ON client_token (created_at);

-- Append-only: the control role may insert and read, and nothing else.
CREATE TABLE audit_event (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT now(),
    request_id    text NOT NULL UNIQUE, -- one row for each call, also when nobody knows whether a commit arrived
    account_id    text NOT NULL,
    principal     text NOT NULL, -- ARN of the caller
    access_key_id text NOT NULL,
    source_ip     text NOT NULL,
    action        text NOT NULL,
    resource      text NOT NULL, -- ARN that was authorized
    resource_id   text NOT NULL DEFAULT '',
    outcome       text NOT NULL CHECK (outcome IN ('done', 'repeated', 'denied', 'failed')),
    code          text NOT NULL DEFAULT ''
);
CREATE INDEX audit_event_account ON audit_event (account_id, at);

-- +goose Down
DROP TABLE audit_event, client_token, replica CASCADE;
DROP TABLE model_service, ai_node, ai_node_pool, ip_array, db_instance_tag, db_instance, host CASCADE;
