-- +goose Up

ALTER TABLE ram_user
    ADD mobile_phone text NOT NULL DEFAULT '',
    ADD email        text NOT NULL DEFAULT '',
    ADD comments     text NOT NULL DEFAULT '',
    ADD updated_at   timestamptz NOT NULL DEFAULT now();

CREATE TABLE ram_group (
    id         text PRIMARY KEY CHECK (id ~ '^[0-9]{18}$'),
    account_id text NOT NULL REFERENCES account ON DELETE CASCADE,
    name       text NOT NULL,
    comments   text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, name)
);

-- Deleting a user, also by a policy file, takes it out of its groups.
CREATE TABLE ram_group_member (
    user_id    text NOT NULL REFERENCES ram_user ON DELETE CASCADE,
    group_id   text NOT NULL REFERENCES ram_group,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, group_id)
);
CREATE INDEX ram_group_member_group ON ram_group_member (group_id);

CREATE TABLE ram_role (
    id                  text PRIMARY KEY CHECK (id ~ '^[0-9]{18}$'),
    account_id          text NOT NULL REFERENCES account ON DELETE CASCADE,
    name                text NOT NULL,
    description         text NOT NULL DEFAULT '',
    trust_policy        text NOT NULL, -- JSON as written
    max_session_seconds integer NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, name)
);

-- What AssumeRole lent, until some time after it has expired. A session ends with its role.
CREATE TABLE sts_session (
    id            text PRIMARY KEY, -- of its access key: STS.…
    role_id       text NOT NULL REFERENCES ram_role ON DELETE CASCADE,
    name          text NOT NULL,
    secret_sealed bytea NOT NULL,
    token_hash    bytea NOT NULL, -- SHA-256 of the security token
    policy        text NOT NULL DEFAULT '', -- the session policy; '' is none
    assumed_by    text NOT NULL, -- ARN
    expires_at    timestamptz NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sts_session_role ON sts_session (role_id);
CREATE INDEX sts_session_expires ON sts_session (expires_at);

-- A version's number is never used again, so that it always means the same document.
ALTER TABLE policy
    ADD last_version integer,
    ADD updated_at   timestamptz NOT NULL DEFAULT now();
UPDATE policy p SET last_version = (SELECT coalesce(max(version), p.default_version) FROM policy_version v WHERE v.policy_id = p.id);
ALTER TABLE policy ALTER last_version SET NOT NULL, ALTER last_version SET DEFAULT 1;

-- A policy is attached to a user, a group or a role: their ids never meet.
ALTER TABLE policy_attachment
    DROP CONSTRAINT policy_attachment_pkey,
    ALTER user_id DROP NOT NULL,
    ADD group_id text REFERENCES ram_group,
    ADD role_id  text REFERENCES ram_role,
    ADD principal_id text GENERATED ALWAYS AS (coalesce(user_id, group_id, role_id)) STORED,
    ADD CHECK (num_nonnulls(user_id, group_id, role_id) = 1),
    ADD PRIMARY KEY (principal_id, policy_id, resource_group_id);
CREATE INDEX policy_attachment_user ON policy_attachment (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX policy_attachment_group ON policy_attachment (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX policy_attachment_role ON policy_attachment (role_id) WHERE role_id IS NOT NULL;
CREATE INDEX policy_attachment_resource_group ON policy_attachment (resource_group_id) WHERE resource_group_id <> '';

-- +goose Down
DELETE FROM policy_attachment WHERE user_id IS NULL;
ALTER TABLE policy_attachment
    DROP CONSTRAINT policy_attachment_pkey,
    DROP principal_id, DROP group_id, DROP role_id,
    ALTER user_id SET NOT NULL,
    ADD PRIMARY KEY (user_id, policy_id, resource_group_id);
DROP INDEX policy_attachment_resource_group, policy_attachment_user;
ALTER TABLE policy DROP last_version, DROP updated_at;
DROP TABLE sts_session, ram_role, ram_group_member, ram_group;
ALTER TABLE ram_user DROP mobile_phone, DROP email, DROP comments, DROP updated_at;
