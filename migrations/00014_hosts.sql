-- +goose Up

ALTER TABLE host
    ADD COLUMN machine  text NOT NULL DEFAULT '',       -- the machine that speaks for the host; '': a worker of before
    ADD COLUMN draining boolean NOT NULL DEFAULT false; -- nothing new is placed on it, and what is there moves away

-- +goose Down
ALTER TABLE host DROP COLUMN machine, DROP COLUMN draining;
