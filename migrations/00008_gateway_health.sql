-- +goose Up

-- What a gateway process found out about services that are not well, by id (snapshot.Health).
ALTER TABLE gateway_status ADD COLUMN health jsonb NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE gateway_status DROP COLUMN health;
