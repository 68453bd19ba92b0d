-- +goose Up

-- Groups, roles and who is in a group may come from policy files, too.
ALTER TABLE ram_group ADD source text NOT NULL DEFAULT 'api' CHECK (source IN ('api', 'file'));
ALTER TABLE ram_role ADD source text NOT NULL DEFAULT 'api' CHECK (source IN ('api', 'file'));
ALTER TABLE ram_group_member ADD source text NOT NULL DEFAULT 'api' CHECK (source IN ('api', 'file'));

-- +goose Down
-- A program from before would never remove what came from files.
DELETE FROM policy_attachment WHERE source = 'file' AND (user_id IS NULL OR resource_group_id <> '');
DELETE FROM policy_attachment WHERE group_id IN (SELECT id FROM ram_group WHERE source = 'file')
    OR role_id IN (SELECT id FROM ram_role WHERE source = 'file');
DELETE FROM ram_group_member WHERE source = 'file' OR group_id IN (SELECT id FROM ram_group WHERE source = 'file');
DELETE FROM ram_group WHERE source = 'file';
DELETE FROM ram_role WHERE source = 'file';
ALTER TABLE ram_group_member DROP source;
ALTER TABLE ram_role DROP source;
ALTER TABLE ram_group DROP source;
