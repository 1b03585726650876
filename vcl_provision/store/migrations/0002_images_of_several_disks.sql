-- Revisions of several disks, each with its role, and where a revision came from; what machines fetch at their first boot.

SET LOCAL search_path = vcl;

ALTER TABLE image_file DROP CONSTRAINT image_file_role_check;
UPDATE image_file SET role = 'system' WHERE role = 'disk';
ALTER TABLE image_file
    ADD CONSTRAINT is_a_role_of_a_file
        CHECK (role IN ('system', 'application', 'data', 'boot_parameters', 'kernel', 'initrd')),
    ADD COLUMN position integer NOT NULL DEFAULT 0 CHECK (position >= 0),
    ADD COLUMN virtual_bytes bigint CHECK (virtual_bytes > 0);
CREATE UNIQUE INDEX one_system_disk_per_revision ON image_file (image_revision_id) WHERE role = 'system';
COMMENT ON TABLE image_file IS 'What a revision consists of, as its descriptor in the repository says it; vcl images verify compares';
COMMENT ON COLUMN image_file.position IS 'The order in which a machine has its disks';
COMMENT ON COLUMN image_file.virtual_bytes IS 'How large a guest sees a disk; NULL for what is no disk';

ALTER TABLE image_revision
    ADD COLUMN parent_id bigint REFERENCES image_revision,
    ADD COLUMN origin text NOT NULL DEFAULT '',
    ADD COLUMN captured_at timestamptz;
COMMENT ON COLUMN image_revision.name IS 'Its name in the repository (VCL: imagename)';
COMMENT ON COLUMN image_revision.parent_id IS 'The revision that it was made from, if it was';
COMMENT ON COLUMN image_revision.origin IS 'The machine that it was captured from; empty if it was built or imported';
COMMENT ON COLUMN vm_profile.repository_path IS 'Where images come from: a folder of the management node, or sftp:// or s3:// (docs/images.md)';

CREATE TABLE firstboot_token (
    token_sha256 bytea PRIMARY KEY CHECK (octet_length(token_sha256) = 32),
    computer_id  bigint NOT NULL REFERENCES computer ON DELETE CASCADE,
    mac          macaddr NOT NULL,
    address      inet,
    sealed       bytea,
    expires_at   timestamptz NOT NULL,
    used_at      timestamptz,
    CONSTRAINT what_is_used_is_gone CHECK ((sealed IS NULL) = (used_at IS NOT NULL))
);
CREATE INDEX firstboot_token_of_computer ON firstboot_token (computer_id);
COMMENT ON TABLE firstboot_token IS 'What machines may fetch at their first boot, once: sealed with tokens of which only the sums are here';
COMMENT ON COLUMN firstboot_token.address IS 'The only one that may ask; NULL: any';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'vcl_daemon') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON firstboot_token TO vcl_daemon;
    END IF;
END $$;
