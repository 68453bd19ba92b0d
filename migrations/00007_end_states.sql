-- +goose Up

-- How requests end that a service falls silent on, or whose stream tells of an error. Partitions were made with a copy of
-- the check, which is theirs.
-- +goose StatementBegin
DO $$
DECLARE
    partition regclass;
BEGIN
    ALTER TABLE usage_record DROP CONSTRAINT usage_record_end_state_check;
    FOR partition IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'usage_record'::regclass LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS usage_record_end_state_check', partition);
    END LOOP;
    ALTER TABLE usage_record ADD CONSTRAINT usage_record_end_state_check CHECK (end_state IN (
        'complete', 'client_gone', 'upstream_cut', 'upstream_timeout', 'upstream_error', 'refused'));
END $$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
DO $$
DECLARE
    partition regclass;
BEGIN
    UPDATE usage_record SET end_state = 'upstream_cut' WHERE end_state IN ('upstream_timeout', 'upstream_error');
    ALTER TABLE usage_record DROP CONSTRAINT usage_record_end_state_check;
    FOR partition IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'usage_record'::regclass LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS usage_record_end_state_check', partition);
    END LOOP;
    ALTER TABLE usage_record ADD CONSTRAINT usage_record_end_state_check CHECK (end_state IN (
        'complete', 'client_gone', 'upstream_cut', 'refused'));
END $$;
-- +goose StatementEnd
