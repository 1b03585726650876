-- Room on VM hosts: how much is kept free, what is free, what is on its way there.
SET search_path = vcl;

ALTER TABLE vm_profile ADD COLUMN keep_free_mb integer CONSTRAINT keep_free_is_not_negative CHECK (keep_free_mb >= 0);
COMMENT ON COLUMN vm_profile.keep_free_mb IS 'MiB that loads leave free where masters and machines lie; NULL: a fiftieth of the disk, at '
    'most 1024';

CREATE TABLE vm_host_disk (
    vm_host_id  bigint NOT NULL REFERENCES vm_host ON DELETE CASCADE,
    holds       text NOT NULL CONSTRAINT a_disk_holds_masters_or_machines CHECK (holds IN ('masters', 'machines')),
    path        text NOT NULL,
    total_bytes bigint NOT NULL CHECK (total_bytes >= 0),
    free_bytes  bigint NOT NULL CHECK (free_bytes >= 0),
    least_bytes bigint NOT NULL CHECK (least_bytes >= 0),
    is_full     boolean NOT NULL GENERATED ALWAYS AS (free_bytes < least_bytes) STORED,
    measured_at timestamptz NOT NULL DEFAULT vcl.now(),
    PRIMARY KEY (vm_host_id, holds)
);
COMMENT ON TABLE vm_host_disk IS 'Room on VM hosts, as vcld last measured it where the provisioning module can';
COMMENT ON COLUMN vm_host_disk.holds IS 'masters: the disk of datastore_path, machines: that of vm_path; they may be one disk';
COMMENT ON COLUMN vm_host_disk.least_bytes IS 'With less than that free no master is brought, or no machine made';

CREATE TABLE vm_host_transfer (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vm_host_id     bigint NOT NULL REFERENCES vm_host ON DELETE CASCADE,
    reservation_id bigint NOT NULL REFERENCES reservation ON DELETE CASCADE,
    claim_token    uuid NOT NULL,
    bytes          bigint NOT NULL CHECK (bytes > 0),
    began_at       timestamptz NOT NULL DEFAULT vcl.now()
);
CREATE INDEX vm_host_transfer_of_host ON vm_host_transfer (vm_host_id, id);
CREATE INDEX vm_host_transfer_of_reservation ON vm_host_transfer (reservation_id);
COMMENT ON TABLE vm_host_transfer IS 'Masters on their way to VM hosts: their room is spoken for';
COMMENT ON COLUMN vm_host_transfer.claim_token IS 'Counts while its reservation is claimed with it, so that nobody who died keeps room';

CREATE OR REPLACE VIEW fit AS
SELECT i.id AS image_id, c.id AS computer_id,
       c.state NOT IN ('failed', 'maintenance', 'vmhostinuse') AND h.in_service IS NOT false AS in_service,
       CASE WHEN machines.is_full THEN format('%s of VM host %s is full', machines.path, h.name) END AS no_room,
       masters.is_full IS TRUE AS no_new_master
  FROM image i
  JOIN provisioning_install_type t ON t.install_type = i.install_type
  JOIN computer c ON c.module = t.module AND c.ram_mb >= i.min_ram_mb AND c.cpus >= i.min_cpus
  LEFT JOIN vm_host h ON h.id = c.vm_host_id
  LEFT JOIN vm_host_disk machines ON machines.vm_host_id = h.id AND machines.holds = 'machines'
  LEFT JOIN vm_host_disk masters ON masters.vm_host_id = h.id AND masters.holds = 'masters';
COMMENT ON VIEW fit IS 'Which computers could run which images, and whether they may be given out; why_not() says why others could not';
COMMENT ON COLUMN fit.no_room IS 'Why nothing can be loaded now; what the computer holds already can be given';
COMMENT ON COLUMN fit.no_new_master IS 'Only images that lie on its VM host already can be loaded now';

CREATE TRIGGER vm_host_has_room_again AFTER UPDATE ON vm_host_disk FOR EACH ROW
    WHEN (OLD.is_full AND NOT NEW.is_full) EXECUTE FUNCTION computer_comes_back();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'vcl_daemon') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON vm_host_disk, vm_host_transfer TO vcl_daemon;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'vcl_reader') THEN
        GRANT SELECT ON vm_host_disk TO vcl_reader;
    END IF;
END $$;
