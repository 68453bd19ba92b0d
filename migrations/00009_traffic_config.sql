-- +goose Up

ALTER TABLE http_api
    ADD COLUMN traffic_config jsonb NOT NULL DEFAULT '{}'; -- timeouts and limits; what is absent is the gateway's default

-- +goose Down
ALTER TABLE http_api DROP COLUMN traffic_config;
