-- +goose Up

ALTER TABLE host ADD COLUMN engine_version text NOT NULL DEFAULT ''; -- such as 0.32.0; '': nobody has asked, or it does not say

-- +goose Down
ALTER TABLE host DROP COLUMN engine_version;
