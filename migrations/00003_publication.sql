-- +goose Up

-- The newest revision. Taken by UPDATE … RETURNING as the last statement of a publishing transaction: the row lock
-- makes revisions commit in their order, which a sequence would not.
CREATE TABLE publication (
    singleton      boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    revision       bigint NOT NULL,
    -- Tombstones up to this revision are gone: a gateway that is older fetches everything.
    forgotten_upto bigint NOT NULL DEFAULT 0
);
INSERT INTO publication (revision) VALUES (0);

CREATE TABLE published_item (
    kind         text NOT NULL,
    id           text NOT NULL,
    revision     bigint NOT NULL,
    -- Which version of its source the item shows, so that a reconcile sees what is still to be published.
    source_version bigint NOT NULL DEFAULT 0,
    deleted      boolean NOT NULL DEFAULT false, -- a tombstone, kept 24 h
    body         bytea NOT NULL DEFAULT '',
    published_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, id)
);
CREATE INDEX published_item_revision ON published_item (revision);

-- Each gateway process reports the revision it serves.
CREATE TABLE gateway_status (
    process_id  text PRIMARY KEY,
    revision    bigint NOT NULL,
    started_at  timestamptz NOT NULL,
    reported_at timestamptz NOT NULL
);

-- +goose Down
DROP TABLE gateway_status, published_item, publication;
