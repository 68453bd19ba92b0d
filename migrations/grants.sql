-- Who may do what. A new table is named here, or neither program can read it.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;

-- The control plane.
GRANT SELECT ON installation, nonce_floor, usage_record TO engineshed_control;
GRANT SELECT, DELETE ON gateway_status TO engineshed_control;
GRANT SELECT, INSERT ON nonce TO engineshed_control;
GRANT SELECT, INSERT ON audit_key, audit_seal TO engineshed_control;
GRANT UPDATE (key_sealed) ON audit_key TO engineshed_control;
GRANT SELECT, INSERT, UPDATE ON audit_head TO engineshed_control;
-- Without its number, which is taken in a way that sealing relies on.
GRANT SELECT, INSERT (at, request_id, account_id, principal, access_key_id, source_ip, action, resource, resource_id, outcome, code, detail)
    ON audit_event TO engineshed_control;
GRANT USAGE, SELECT ON SEQUENCE audit_event_seq TO engineshed_control;
GRANT SELECT, INSERT, UPDATE, DELETE ON sign_in_failure TO engineshed_control;
GRANT SELECT, INSERT, DELETE ON http_api_revision TO engineshed_control;
GRANT SELECT, UPDATE ON publication TO engineshed_control;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    account, ram_user, access_key, policy, policy_version, policy_attachment,
    ram_group, ram_group_member, ram_role, sts_session, resource_group,
    host, db_instance, db_instance_tag, ip_array, ai_node_pool, ai_node, model_service, replica,
    client_token, published_item, model_service_event, replica_log,
    gateway, environment, domain, ai_service, http_api, http_api_host, http_api_route, consumer, consumer_key,
    consumer_group, consumer_group_member, authorization_rule, resource_tag, consumer_token, consumer_access_key, operator_key
    TO engineshed_control;
GRANT USAGE ON SEQUENCE operator_key_id_seq TO engineshed_control;
GRANT EXECUTE ON FUNCTION maintain_nonce_partitions(), last_crash(), maintain_usage_partitions(interval),
    maintain_audit_partitions(interval), next_audit_event_id() TO engineshed_control;

-- River's tables carry River's own names; what its client does with them is its own affair.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT c.oid::regclass FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname LIKE 'river\_%' LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO engineshed_control', name);
    END LOOP;
    FOR name IN SELECT c.oid::regclass FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S' AND c.relname LIKE 'river\_%' LOOP
        EXECUTE format('GRANT USAGE, SELECT, UPDATE ON SEQUENCE %s TO engineshed_control', name);
    END LOOP;
    FOR name IN SELECT p.oid::regprocedure FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'river\_%' LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO engineshed_control', name);
    END LOOP;
END $$;

-- A gateway reads what is published, reports what it serves and writes down what was used.
GRANT SELECT ON publication, published_item TO engineshed_gateway;
GRANT SELECT, INSERT, UPDATE ON gateway_status TO engineshed_gateway;
GRANT INSERT ON usage_record TO engineshed_gateway;
