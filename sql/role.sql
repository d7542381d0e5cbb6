-- role.sql - the role pgvigil connects as, with the rights that backups and checks need and no more
--
-- Run it once as a superuser, in the database that pgvigil connects to ("postgres" unless conninfo
-- says otherwise), on the primary:
--
--     psql -X -v ON_ERROR_STOP=1 -d postgres -f role.sql
--
-- It can be run again at any time, and has to be after conninfo was pointed to another database:
-- rights to execute functions belong to one database.
--
-- The role has no password. Either let the operating system's user pgvigil runs as in by the socket
-- (pg_hba.conf, "peer" with a map in pg_ident.conf), or set one and keep it in that user's
-- ~/.pgpass:
--
--     local   postgres   pgvigil   peer map=pgvigil     # pg_hba.conf
--     pgvigil   postgres   pgvigil                      # pg_ident.conf

BEGIN;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pgvigil') THEN
        CREATE ROLE pgvigil LOGIN;
    END IF;
    EXECUTE pg_catalog.format('GRANT CONNECT ON DATABASE %I TO pgvigil',
                              pg_catalog.current_database());
END
$$;

COMMENT ON ROLE pgvigil IS 'backups and checks by pgvigil';

-- Where the data directory and the configuration files are, and how archiving is set up.
GRANT pg_read_all_settings TO pgvigil;

-- A base backup.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_backup_start(text, boolean) TO pgvigil;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_backup_stop(boolean) TO pgvigil;

-- "pgvigil check" sends a segment of WAL the whole way into the repositories.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO pgvigil;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO pgvigil;

-- Which cluster this is and what it writes. Everybody has these rights unless they were taken away.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO pgvigil;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_checkpoint() TO pgvigil;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_recovery() TO pgvigil;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_init() TO pgvigil;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_is_in_recovery() TO pgvigil;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_current_wal_lsn() TO pgvigil;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_walfile_name(pg_lsn) TO pgvigil;

COMMIT;
