-- +goose Up

CREATE TABLE gateway (
    id                text PRIMARY KEY,
    account_id        text NOT NULL REFERENCES account,
    name              text NOT NULL,
    resource_group_id text NOT NULL,
    is_default        boolean NOT NULL DEFAULT false, -- the seeded one: its default environment answers for any Host that no domain claims
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, name)
);

CREATE TABLE environment (
    id                text PRIMARY KEY,
    account_id        text NOT NULL REFERENCES account,
    gateway_id        text NOT NULL REFERENCES gateway,
    name              text NOT NULL,
    alias             text NOT NULL DEFAULT '',
    description       text NOT NULL DEFAULT '',
    is_default        boolean NOT NULL DEFAULT false,
    resource_group_id text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (gateway_id, name)
);

CREATE TABLE domain (
    id                text PRIMARY KEY,
    account_id        text NOT NULL REFERENCES account,
    name              text NOT NULL UNIQUE, -- lower case; *.example.com for a wildcard
    protocol          text NOT NULL CHECK (protocol IN ('HTTP', 'HTTPS')),
    force_https       boolean NOT NULL DEFAULT false,
    http2             text NOT NULL DEFAULT 'GlobalConfig' CHECK (http2 IN ('Open', 'Close', 'GlobalConfig')),
    cert_identifier   text NOT NULL DEFAULT '', -- the PEM file pair of that name in the control plane's certificate directory
    cert_pem          text NOT NULL DEFAULT '',
    cert_key_sealed   bytea NOT NULL DEFAULT '', -- under the snapshot key
    tls_min           text NOT NULL DEFAULT '',
    tls_max           text NOT NULL DEFAULT '',
    resource_group_id text NOT NULL,
    version           bigint NOT NULL DEFAULT 1,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX domain_account ON domain (account_id, created_at);

-- An upstream service a Model API forwards to.
CREATE TABLE ai_service (
    id                text PRIMARY KEY,
    account_id        text NOT NULL REFERENCES account,
    gateway_id        text NOT NULL REFERENCES gateway,
    name              text NOT NULL,
    source_type       text NOT NULL CHECK (source_type IN ('AI', 'DNS', 'VIP', 'ModelService')),
    addresses         text[] NOT NULL DEFAULT '{}', -- DNS, VIP: host:port
    model_service_id  text NOT NULL DEFAULT '',     -- ModelService: one of ours, followed live
    config            jsonb NOT NULL DEFAULT '{}',  -- aiServiceConfig without its keys
    api_keys_sealed   bytea[] NOT NULL DEFAULT '{}', -- under the master key, to show their last characters
    published_keys    bytea[] NOT NULL DEFAULT '{}', -- the same under the snapshot key
    resource_group_id text NOT NULL,
    version           bigint NOT NULL DEFAULT 1,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (gateway_id, name)
);
CREATE INDEX ai_service_account ON ai_service (account_id, created_at);

CREATE TABLE http_api (
    id                text PRIMARY KEY,
    account_id        text NOT NULL REFERENCES account,
    name              text NOT NULL,
    type              text NOT NULL CHECK (type IN ('LLM', 'Ai')),
    model_category    text NOT NULL,
    ai_protocols      text[] NOT NULL,
    base_path         text NOT NULL,
    remove_base_path  boolean NOT NULL DEFAULT false,
    protocols         text[] NOT NULL DEFAULT '{HTTP,HTTPS}',
    description       text NOT NULL DEFAULT '',
    enable_auth       boolean NOT NULL DEFAULT false,
    auth_config       jsonb,
    first_byte_timeout integer NOT NULL DEFAULT 0, -- milliseconds, 0: off
    gateway_id        text NOT NULL REFERENCES gateway,
    environment_id    text NOT NULL REFERENCES environment,
    deploy_config     jsonb NOT NULL,              -- deployConfigs[0] as sent
    deployed_revision bigint NOT NULL DEFAULT 0,   -- 0: not deployed
    resource_group_id text NOT NULL,
    version           bigint NOT NULL DEFAULT 1,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, name)
);

-- Where an API answers. One row for each of its hosts; the host of an environment's sub-domain is its id.
CREATE TABLE http_api_host (
    http_api_id    text NOT NULL REFERENCES http_api ON DELETE CASCADE,
    domain_id      text REFERENCES domain,      -- NULL: the sub-domain of environment_id
    environment_id text REFERENCES environment,
    base_path      text NOT NULL,
    CHECK ((domain_id IS NULL) <> (environment_id IS NULL))
);
CREATE UNIQUE INDEX http_api_host_place ON http_api_host (coalesce(domain_id, environment_id), base_path);
CREATE INDEX http_api_host_api ON http_api_host (http_api_id);

CREATE TABLE http_api_route (
    id             text PRIMARY KEY,
    http_api_id    text NOT NULL REFERENCES http_api ON DELETE CASCADE,
    name           text NOT NULL,
    description    text NOT NULL DEFAULT '',
    builtin        boolean NOT NULL DEFAULT false,
    match          jsonb NOT NULL,   -- HttpRouteMatch
    backend        jsonb,            -- backendConfig of a route of one's own; NULL: the API's
    policy_configs jsonb NOT NULL DEFAULT '[]',
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (http_api_id, name)
);

-- What was deployed, whole, so that it can be compared and rolled back to. Never changed.
CREATE TABLE http_api_revision (
    http_api_id text NOT NULL REFERENCES http_api ON DELETE CASCADE,
    number      bigint NOT NULL,
    id          text NOT NULL UNIQUE, -- apr-…
    content     jsonb NOT NULL,
    author      text NOT NULL,        -- ARN
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (http_api_id, number)
);

CREATE TABLE consumer (
    id          text PRIMARY KEY,
    account_id  text NOT NULL REFERENCES account,
    name        text NOT NULL,
    enabled     boolean NOT NULL DEFAULT true,
    description text NOT NULL DEFAULT '',
    key_source  text NOT NULL DEFAULT 'Default' CHECK (key_source IN ('Default', 'Header', 'QueryString')),
    key_name    text NOT NULL DEFAULT '', -- of the header or query parameter
    version     bigint NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, name)
);

CREATE TABLE consumer_key (
    consumer_id   text NOT NULL REFERENCES consumer ON DELETE CASCADE,
    position      integer NOT NULL,
    key_sealed    bytea NOT NULL, -- under the master key: its owner may read it again
    key_hash      bytea NOT NULL UNIQUE,
    generate_mode text NOT NULL CHECK (generate_mode IN ('System', 'Custom')),
    PRIMARY KEY (consumer_id, position)
);

CREATE TABLE consumer_group (
    id          text PRIMARY KEY,
    account_id  text NOT NULL REFERENCES account,
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, name)
);

CREATE TABLE consumer_group_member (
    group_id    text NOT NULL REFERENCES consumer_group ON DELETE CASCADE,
    consumer_id text NOT NULL REFERENCES consumer ON DELETE CASCADE,
    PRIMARY KEY (group_id, consumer_id)
);
CREATE INDEX consumer_group_member_consumer ON consumer_group_member (consumer_id);

CREATE TABLE authorization_rule (
    id             text PRIMARY KEY,
    account_id     text NOT NULL REFERENCES account,
    consumer_id    text REFERENCES consumer ON DELETE CASCADE,
    group_id       text REFERENCES consumer_group ON DELETE CASCADE,
    http_api_id    text NOT NULL REFERENCES http_api ON DELETE CASCADE,
    environment_id text NOT NULL REFERENCES environment,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CHECK ((consumer_id IS NULL) <> (group_id IS NULL))
);
CREATE UNIQUE INDEX authorization_rule_pair ON authorization_rule (coalesce(consumer_id, group_id), http_api_id, environment_id);
CREATE INDEX authorization_rule_api ON authorization_rule (http_api_id);

CREATE TABLE resource_tag (
    resource_id text NOT NULL,
    key         text NOT NULL,
    value       text NOT NULL,
    PRIMARY KEY (resource_id, key)
);

-- +goose Down
DROP TABLE resource_tag, authorization_rule, consumer_group_member, consumer_group, consumer_key, consumer,
    http_api_revision, http_api_route, http_api_host, http_api, ai_service, domain, environment, gateway;
