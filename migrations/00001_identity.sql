-- +goose Up

-- One row: which installation this database belongs to. Engines carry it in their environment marker.
CREATE TABLE installation (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    id         text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO installation (id) VALUES (replace(gen_random_uuid()::text, '-', ''));

CREATE TABLE account (
    id           text PRIMARY KEY CHECK (id ~ '^[0-9]{16}$'),
    name         text NOT NULL,
    -- Grows with every change of a user, key, policy or attachment of the account. Read together with the
    -- key of each call, so that a compiled policy is never older than the call.
    policy_epoch bigint NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ram_user (
    id           text PRIMARY KEY CHECK (id ~ '^[0-9]{18}$'),
    account_id   text NOT NULL REFERENCES account ON DELETE CASCADE,
    name         text NOT NULL,
    display_name text NOT NULL DEFAULT '',
    source       text NOT NULL CHECK (source IN ('api', 'file')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, name)
);

CREATE TABLE access_key (
    id            text PRIMARY KEY,
    account_id    text NOT NULL REFERENCES account ON DELETE CASCADE,
    user_id       text REFERENCES ram_user ON DELETE CASCADE, -- NULL: a key of the account itself (root)
    secret_sealed bytea NOT NULL,
    status        text NOT NULL DEFAULT 'Active' CHECK (status IN ('Active', 'Inactive')),
    source        text NOT NULL CHECK (source IN ('api', 'file', 'root')), -- root: the one key the installation was started with
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX access_key_account ON access_key (account_id);
CREATE INDEX access_key_user ON access_key (user_id);

CREATE TABLE policy (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id      text REFERENCES account ON DELETE CASCADE, -- NULL: a system policy, the same in all accounts
    name            text NOT NULL,
    description     text NOT NULL DEFAULT '',
    default_version integer NOT NULL,
    source          text NOT NULL CHECK (source IN ('api', 'file', 'system')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (account_id, name)
);

CREATE TABLE policy_version (
    policy_id  bigint NOT NULL REFERENCES policy ON DELETE CASCADE,
    version    integer NOT NULL, -- shown as v1, v2, …
    document   text NOT NULL,    -- RAM JSON as written; a version never changes
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (policy_id, version)
);

CREATE TABLE policy_attachment (
    policy_id         bigint NOT NULL REFERENCES policy ON DELETE CASCADE,
    user_id           text NOT NULL REFERENCES ram_user ON DELETE CASCADE,
    resource_group_id text NOT NULL DEFAULT '', -- '': the whole account
    source            text NOT NULL CHECK (source IN ('api', 'file')),
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, policy_id, resource_group_id)
);
CREATE INDEX policy_attachment_policy ON policy_attachment (policy_id);

-- Spent signature nonces: partitions of ten minutes of the *signed* date, dropped when no request that old can
-- verify any more. A replay carries the date it was signed with, so it meets its nonce in the same partition.
CREATE TABLE nonce (
    signed_at     timestamptz NOT NULL,
    bucket        timestamptz NOT NULL, -- signed_at cut to ten minutes
    access_key_id text NOT NULL,
    nonce         text NOT NULL,
    PRIMARY KEY (bucket, access_key_id, nonce)
) PARTITION BY RANGE (bucket);

-- Nonces are committed without waiting for the disk, so a crash may lose the last of them. An unlogged table is
-- emptied by exactly such a crash: while its row is missing, requests dated before last_crash() are refused.
CREATE UNLOGGED TABLE nonce_floor (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    not_before timestamptz NOT NULL
);
INSERT INTO nonce_floor (not_before) VALUES ('-infinity');

-- The crash of one backend restarts all of them but not the postmaster, whose start is therefore not enough; the
-- statistics are emptied by every recovery after a crash.
CREATE FUNCTION last_crash() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT greatest(pg_postmaster_start_time(), (SELECT stats_reset FROM pg_stat_wal))
$$;

-- A backup reads the nonces for as long as it runs. Attaching does not wait for it, and dropping gives up at once:
-- whoever waits for the table makes every signed call wait behind it.
-- +goose StatementBegin
CREATE FUNCTION maintain_nonce_partitions() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    bucket    timestamptz;
    partition name;
BEGIN
    PERFORM pg_advisory_xact_lock(7051);
    FOR bucket IN SELECT generate_series(
            date_bin('10 minutes', now(), 'epoch') - interval '20 minutes',
            date_bin('10 minutes', now(), 'epoch') + interval '70 minutes', interval '10 minutes') LOOP
        partition := 'nonce_' || to_char(bucket AT TIME ZONE 'UTC', 'YYYYMMDD_HH24MI');
        IF to_regclass('public.' || partition) IS NULL THEN
            EXECUTE format('CREATE TABLE public.%I (LIKE public.nonce INCLUDING ALL)', partition);
            EXECUTE format('ALTER TABLE public.nonce ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                partition, bucket, bucket + interval '10 minutes');
        END IF;
    END LOOP;
    INSERT INTO nonce_floor (not_before) VALUES (public.last_crash()) ON CONFLICT DO NOTHING;
    FOR partition IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.nonce'::regclass
          AND c.relname < 'nonce_' || to_char((now() - interval '40 minutes') AT TIME ZONE 'UTC', 'YYYYMMDD_HH24MI') LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '100ms', true);
            EXECUTE format('DROP TABLE public.%I', partition);
        EXCEPTION WHEN lock_not_available THEN
            EXIT; -- the next call finds it again
        END;
    END LOOP;
END $$;
-- +goose StatementEnd
SELECT maintain_nonce_partitions();

-- +goose Down
DROP FUNCTION maintain_nonce_partitions, last_crash;
DROP TABLE nonce_floor, nonce, policy_attachment, policy_version, policy, access_key, ram_user, account, installation;
