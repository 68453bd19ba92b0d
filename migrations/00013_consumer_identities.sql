-- +goose Up

CREATE TABLE consumer_token (
    consumer_id    text PRIMARY KEY REFERENCES consumer ON DELETE CASCADE,
    account_id     text NOT NULL REFERENCES account,
    secret_type    text NOT NULL CHECK (secret_type IN ('Symmetry', 'Asymmetry')),
    keys_sealed    bytea NOT NULL, -- the JSON Web Key Set, under the master key
    keys_published bytea NOT NULL, -- the same, under the snapshot key
    keys_shown     text NOT NULL,  -- the same, as reads have it: without secrets
    claim          text NOT NULL,
    value          text NOT NULL,
    position       text NOT NULL CHECK (position IN ('HEADER', 'QUERY')),
    name           text NOT NULL, -- of the header or query parameter
    prefix         text NOT NULL,
    issuer         text NOT NULL,
    audience       text NOT NULL,
    CONSTRAINT consumer_token_claim UNIQUE (account_id, claim, value)
);

CREATE TABLE consumer_access_key (
    consumer_id      text NOT NULL REFERENCES consumer ON DELETE CASCADE,
    position         integer NOT NULL,
    account_id       text NOT NULL REFERENCES account,
    id               text NOT NULL,
    secret_sealed    bytea NOT NULL, -- under the master key: its owner may read a generated one again
    secret_published bytea NOT NULL, -- the same, under the snapshot key
    generate_mode    text NOT NULL CHECK (generate_mode IN ('System', 'Custom')),
    PRIMARY KEY (consumer_id, position),
    CONSTRAINT consumer_access_key_id UNIQUE (account_id, id)
);

-- +goose Down
DROP TABLE consumer_access_key, consumer_token;
