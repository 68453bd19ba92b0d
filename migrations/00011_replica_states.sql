-- +goose Up

ALTER TABLE replica
    DROP CONSTRAINT replica_status_check,
    ADD CONSTRAINT replica_status_check
        CHECK (status IN ('pending', 'starting', 'active', 'silent', 'failed', 'draining', 'removing')),
    ADD COLUMN model_params   jsonb NOT NULL DEFAULT '{}', -- what its engine is told; the service's may have changed since
    ADD COLUMN drain_version  bigint NOT NULL DEFAULT 0,   -- the service's version from which on no gateway is told of it
    ADD COLUMN draining_since timestamptz,
    ADD COLUMN idle_since     timestamptz;                 -- while it drains: since when its engine has had nothing to do
UPDATE replica r SET model_params = s.model_params FROM model_service s WHERE s.id = r.model_service_id;

ALTER TABLE model_service
    ADD COLUMN allow_interruption boolean NOT NULL DEFAULT false; -- the last change may leave it without a replica for a while

ALTER TABLE ai_node
    ADD COLUMN leaving boolean NOT NULL DEFAULT false; -- its service gives it back as soon as no replica is on it

-- +goose Down
UPDATE replica SET status = 'active' WHERE status = 'silent';
UPDATE replica SET status = 'removing' WHERE status = 'draining';
ALTER TABLE ai_node DROP COLUMN leaving;
ALTER TABLE model_service DROP COLUMN allow_interruption;
ALTER TABLE replica
    DROP CONSTRAINT replica_status_check,
    ADD CONSTRAINT replica_status_check CHECK (status IN ('pending', 'starting', 'active', 'failed', 'removing')),
    DROP COLUMN model_params, DROP COLUMN drain_version, DROP COLUMN draining_since, DROP COLUMN idle_since;
