-- +goose Up

-- The audit trail by months, which are dropped whole when they are too old. at is what the program says, and says again
-- when it writes the row a second time, so that (at, request_id) is one row for each call.
ALTER TABLE audit_event RENAME TO audit_event_before;
ALTER TABLE audit_event_before RENAME CONSTRAINT audit_event_pkey TO audit_event_before_pkey;

CREATE SEQUENCE audit_event_seq;

-- The number of a row, taken by a transaction that has a number itself: once all transactions are over that had one when
-- the sequence stood at n, no row up to n can appear any more. Sealing relies on it.
CREATE FUNCTION next_audit_event_id() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT nextval(CASE WHEN pg_current_xact_id() IS NOT NULL THEN 'public.audit_event_seq'::regclass END)
$$;

CREATE TABLE audit_event (
    id            bigint NOT NULL DEFAULT next_audit_event_id(),
    at            timestamptz NOT NULL DEFAULT now(),
    request_id    text NOT NULL,
    account_id    text NOT NULL,
    principal     text NOT NULL, -- ARN of the caller
    access_key_id text NOT NULL,
    source_ip     text NOT NULL,
    action        text NOT NULL,
    resource      text NOT NULL, -- ARN that was authorized
    resource_id   text NOT NULL DEFAULT '',
    outcome       text NOT NULL CHECK (outcome IN ('done', 'repeated', 'denied', 'failed')),
    code          text NOT NULL DEFAULT '',
    detail        text NOT NULL DEFAULT '', -- what a call changed that the other columns do not say
    PRIMARY KEY (at, request_id)            -- also when nobody knows whether a commit arrived
) PARTITION BY RANGE (at);
ALTER SEQUENCE audit_event_seq OWNED BY audit_event.id;
CREATE INDEX audit_event_account_at ON audit_event (account_id, at, id);
CREATE INDEX audit_event_number ON audit_event (id);

-- The keys that seals are made with, sealed themselves under the master key: who can write the database cannot seal.
CREATE TABLE audit_key (
    id         integer PRIMARY KEY,
    key_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- One seal for each run of rows: those of one month with numbers after after_id, up to last_id.
CREATE TABLE audit_seal (
    seq       bigint PRIMARY KEY,
    month     date NOT NULL,
    after_id  bigint NOT NULL,
    last_id   bigint NOT NULL CHECK (last_id > after_id),
    rows      bigint NOT NULL CHECK (rows > 0),
    digest    bytea NOT NULL, -- of the rows
    key_id    integer NOT NULL REFERENCES audit_key,
    previous  bytea NOT NULL, -- the mac of the seal before
    mac       bytea NOT NULL, -- of all the above and sealed_at
    sealed_at timestamptz NOT NULL
);

-- How far the chain goes, so that a missing end shows.
CREATE TABLE audit_head (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    seq       bigint NOT NULL,
    mac       bytea NOT NULL
);

-- How often nobody could be proven to have sent a request: counted for each source and minute by each process, of which
-- some sources are counted together when there are too many.
CREATE TABLE sign_in_failure (
    minute timestamptz NOT NULL,
    source text NOT NULL, -- an IPv4 address, an IPv6 network of 64 bits, or 'others'
    code   text NOT NULL,
    count  bigint NOT NULL,
    PRIMARY KEY (minute, source, code)
);

-- Makes the months that rows may be written in, and drops those that are wholly older than keep. Rows that no seal covers
-- are not dropped. Of the seals of dropped months the newest stays: the chain begins with it. A month that is being read is
-- dropped by a later call.
-- +goose StatementBegin
CREATE FUNCTION maintain_audit_partitions(keep interval) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    month     timestamp;
    partition name;
    sealed    bigint := coalesce((SELECT last_id FROM audit_seal ORDER BY seq DESC LIMIT 1), 0);
    unsealed  boolean;
    oldest    date;
BEGIN
    IF keep < interval '1 day' THEN
        RAISE EXCEPTION 'the audit trail is kept for a day at least, not for %', keep;
    END IF;
    PERFORM pg_advisory_xact_lock(7056);
    FOR month IN SELECT generate_series(
            date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 month',
            date_trunc('month', now() AT TIME ZONE 'UTC') + interval '2 months', interval '1 month') LOOP
        partition := 'audit_event_' || to_char(month, 'YYYYMM');
        IF to_regclass('public.' || partition) IS NULL
           AND (month + interval '1 month') AT TIME ZONE 'UTC' > now() - keep THEN
            EXECUTE format('CREATE TABLE public.%I (LIKE public.audit_event INCLUDING ALL)', partition);
            EXECUTE format('ALTER TABLE public.audit_event ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                partition, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
        END IF;
    END LOOP;
    PERFORM set_config('lock_timeout', '100ms', true);
    FOR partition, month IN
        SELECT c.relname, to_date(right(c.relname, 6), 'YYYYMM')::timestamp
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.audit_event'::regclass ORDER BY c.relname LOOP
        EXIT WHEN (month + interval '1 month') AT TIME ZONE 'UTC' > now() - keep;
        EXECUTE format('SELECT EXISTS (SELECT FROM public.%I WHERE id > $1)', partition) INTO unsealed USING sealed;
        EXIT WHEN unsealed;
        BEGIN
            EXECUTE format('DROP TABLE public.%I', partition);
        EXCEPTION WHEN lock_not_available THEN
            EXIT;
        END;
    END LOOP;
    SELECT to_date(min(right(c.relname, 6)), 'YYYYMM') INTO oldest
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'public.audit_event'::regclass;
    DELETE FROM audit_seal WHERE seq < coalesce(
        (SELECT min(s.seq) FROM audit_seal s WHERE s.month >= oldest), (SELECT max(s.seq) + 1 FROM audit_seal s)) - 1;
END $$;
-- +goose StatementEnd

-- What is there moves over, with the months it needs.
-- +goose StatementBegin
DO $$
DECLARE
    month timestamp;
BEGIN
    PERFORM maintain_audit_partitions(interval '400 days');
    FOR month IN SELECT DISTINCT date_trunc('month', at AT TIME ZONE 'UTC') FROM audit_event_before LOOP
        IF to_regclass('public.audit_event_' || to_char(month, 'YYYYMM')) IS NULL THEN
            EXECUTE format('CREATE TABLE public.%I PARTITION OF public.audit_event FOR VALUES FROM (%L) TO (%L)',
                'audit_event_' || to_char(month, 'YYYYMM'), month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
        END IF;
    END LOOP;
    INSERT INTO audit_event (id, at, request_id, account_id, principal, access_key_id, source_ip, action, resource,
        resource_id, outcome, code, detail)
    SELECT id, at, request_id, account_id, principal, access_key_id, source_ip, action, resource,
        resource_id, outcome, code, detail FROM audit_event_before;
    PERFORM setval('audit_event_seq', coalesce((SELECT max(id) FROM audit_event_before), 0) + 1, false);
    DROP TABLE audit_event_before;
END $$;
-- +goose StatementEnd

-- +goose Down
CREATE TABLE audit_event_after (
    id            bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT now(),
    request_id    text NOT NULL UNIQUE,
    account_id    text NOT NULL,
    principal     text NOT NULL,
    access_key_id text NOT NULL,
    source_ip     text NOT NULL,
    action        text NOT NULL,
    resource      text NOT NULL,
    resource_id   text NOT NULL DEFAULT '',
    outcome       text NOT NULL CHECK (outcome IN ('done', 'repeated', 'denied', 'failed')),
    code          text NOT NULL DEFAULT '',
    detail        text NOT NULL DEFAULT ''
);
INSERT INTO audit_event_after SELECT * FROM audit_event ON CONFLICT DO NOTHING;
SELECT setval(pg_get_serial_sequence('audit_event_after', 'id'), coalesce((SELECT max(id) FROM audit_event), 0) + 1, false);
ALTER TABLE audit_event_after ALTER id SET GENERATED ALWAYS;
DROP FUNCTION maintain_audit_partitions;
DROP TABLE audit_head, audit_seal, audit_key, sign_in_failure, audit_event;
DROP FUNCTION next_audit_event_id;
ALTER TABLE audit_event_after RENAME TO audit_event;
ALTER TABLE audit_event RENAME CONSTRAINT audit_event_after_pkey TO audit_event_pkey;
CREATE INDEX audit_event_account ON audit_event (account_id, at);
