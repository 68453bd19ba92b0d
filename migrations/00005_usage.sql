-- +goose Up

-- One row for each request to a Model API, and to a model service that is called directly. Written by gateways, in
-- batches; partitions of a day, dropped when they are too old. The names are those of the moment: what is deleted since
-- is still accounted for.
CREATE TABLE usage_record (
    began_at         timestamptz NOT NULL,
    request_id       text NOT NULL,
    account_id       text NOT NULL,
    gateway_process  text NOT NULL,
    http_api_id      text NOT NULL DEFAULT '', -- '': a model service was called directly
    http_api_name    text NOT NULL DEFAULT '',
    route            text NOT NULL DEFAULT '',
    service_id       text NOT NULL DEFAULT '',
    service_name     text NOT NULL DEFAULT '',
    model_asked      text NOT NULL DEFAULT '', -- as the client wrote it
    model            text NOT NULL DEFAULT '', -- as it was served
    consumer_id      text NOT NULL DEFAULT '',
    consumer_name    text NOT NULL DEFAULT '',
    end_state        text NOT NULL CHECK (end_state IN ('complete', 'client_gone', 'upstream_cut', 'refused')),
    status           integer NOT NULL,         -- of the answer; 0: the client left before there was one
    streamed         boolean NOT NULL,
    -- NULL: the answer did not say
    input_tokens     bigint,
    output_tokens    bigint,
    total_tokens     bigint,
    cached_tokens    bigint,
    reasoning_tokens bigint,
    first_content_ms bigint,                   -- NULL: not streamed, or no content came
    total_ms         bigint NOT NULL,
    PRIMARY KEY (began_at, request_id)         -- a batch that may have been written is written again
) PARTITION BY RANGE (began_at);
CREATE INDEX usage_record_account ON usage_record (account_id, began_at);

-- Makes the partitions of the last two days and of the coming week, and drops those that are older than keep. A read
-- may take long: dropping gives up at once and is tried again by the next call.
-- +goose StatementBegin
CREATE FUNCTION maintain_usage_partitions(keep interval) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    day       timestamptz;
    partition name;
BEGIN
    IF keep < interval '1 day' THEN
        RAISE EXCEPTION 'usage records are kept for a day at least, not for %', keep;
    END IF;
    PERFORM pg_advisory_xact_lock(7052);
    FOR day IN SELECT generate_series(
            date_bin('1 day', now(), 'epoch') - interval '2 days',
            date_bin('1 day', now(), 'epoch') + interval '7 days', interval '1 day') LOOP
        partition := 'usage_record_' || to_char(day AT TIME ZONE 'UTC', 'YYYYMMDD');
        IF to_regclass('public.' || partition) IS NULL AND day + interval '1 day' > now() - keep THEN
            EXECUTE format('CREATE TABLE public.%I (LIKE public.usage_record INCLUDING ALL)', partition);
            EXECUTE format('ALTER TABLE public.usage_record ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                partition, day, day + interval '1 day');
        END IF;
    END LOOP;
    FOR partition IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.usage_record'::regclass
          AND c.relname < 'usage_record_' || to_char((now() - keep) AT TIME ZONE 'UTC', 'YYYYMMDD') LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '100ms', true);
            EXECUTE format('DROP TABLE public.%I', partition);
        EXCEPTION WHEN lock_not_available THEN
            EXIT;
        END;
    END LOOP;
END $$;
-- +goose StatementEnd
SELECT maintain_usage_partitions(interval '30 days');

-- What a call changed that the row's other columns do not say, such as that bodies are recorded from now on.
ALTER TABLE audit_event ADD COLUMN detail text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE audit_event DROP COLUMN detail;
DROP FUNCTION maintain_usage_partitions;
DROP TABLE usage_record;
