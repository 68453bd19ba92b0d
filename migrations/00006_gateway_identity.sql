-- +goose Up

ALTER TABLE gateway_status
    ADD COLUMN gateway_id text NOT NULL DEFAULT '',   -- the one gateway that the process serves; '': all
    ADD COLUMN refused    text[] NOT NULL DEFAULT '{}'; -- ids of items that it serves in an older form, because it could not use the newest

-- +goose Down
ALTER TABLE gateway_status DROP COLUMN refused, DROP COLUMN gateway_id;
