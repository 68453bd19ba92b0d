-- +goose Up

-- The group rg-default is every account's and has no row.
CREATE TABLE resource_group (
    id           text PRIMARY KEY CHECK (id ~ '^rg-[0-9a-v]{20}$'),
    account_id   text NOT NULL REFERENCES account ON DELETE CASCADE,
    name         text NOT NULL,
    display_name text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, name)
);

-- +goose Down
DROP TABLE resource_group;
