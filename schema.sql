-- The database of a lab: PostgreSQL 14 and newer, no extensions.
--
-- Words are Apache VCL's. A request is what a user asked for; it owns one reservation for each machine. The request has the
-- state, each reservation its own progress and claim. What follows which state is in lifecycle_edge and nowhere else.
--
-- Functions that run plpgsql look in pg_temp last: nobody's temporary table is taken for one of ours.
--
-- Order: clock and words, people, images, machines, requests, what was done, questions in plain words, triggers, status, roles.

CREATE SCHEMA vcl;
COMMENT ON SCHEMA vcl IS 'The lab: what there is, who asked for what, what is being done about it';
SET search_path = vcl;

-- == Clock and words ==================================================================================================

CREATE FUNCTION vcl.now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
    RETURN statement_timestamp();
COMMENT ON FUNCTION vcl.now() IS 'The lab''s clock. A simulation replaces this function in its own database';

CREATE FUNCTION commit_soon() RETURNS text LANGUAGE sql VOLATILE
    RETURN set_config('synchronous_commit', 'off', true);
COMMENT ON FUNCTION commit_soon IS 'This transaction need not wait for the disk: should a crash of the server lose it, what it says is '
    'found out again, or was followed by nothing. Never in the last one before something is done outside';

CREATE FUNCTION refuse(said text, hint text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', said USING ERRCODE = 'check_violation', HINT = hint;
END $$;
COMMENT ON FUNCTION refuse IS 'The last word of a check: what is wrong, and what to do; a check by itself has no HINT';

CREATE FUNCTION is_no_state(word text) RETURNS boolean LANGUAGE sql
    RETURN refuse(format('there is no state "%s"', word),
                  'to end a request set its state to "deleted"; vcld sets the others');
COMMENT ON FUNCTION is_no_state IS 'Refuses a word that is none of the states of a request';

CREATE DOMAIN request_state AS text
    CONSTRAINT is_a_request_state CHECK (
        VALUE IS NULL OR VALUE IN ('new', 'reload', 'reserved', 'inuse', 'timeout', 'deleted', 'reclaim', 'complete', 'failed')
        OR is_no_state(VALUE));
CREATE DOMAIN computer_state AS text
    CONSTRAINT is_a_computer_state CHECK (VALUE IN ('available', 'reloading', 'reserved', 'inuse', 'timeout', 'failed',
                                                    'maintenance', 'vmhostinuse'));
CREATE DOMAIN ending AS text
    CONSTRAINT is_an_ending CHECK (VALUE IN ('deleted', 'released', 'failed', 'failedtest', 'noack', 'nologin', 'timeout',
                                             'EOR', 'none'));

CREATE TABLE lifecycle_edge (
    source   request_state NOT NULL,
    event    text NOT NULL,
    target   request_state NOT NULL,
    sentence text NOT NULL,
    PRIMARY KEY (source, event)
);
COMMENT ON TABLE lifecycle_edge IS 'Which state follows which event; equal to workflow/lifecycle.py, which a test proves';
INSERT INTO lifecycle_edge (source, event, target, sentence) VALUES
    ('new',      'loaded',             'reserved', 'the machine is ready and waits for its user'),
    ('reload',   'loaded',             'complete', 'the computer holds the image and is available'),
    ('reserved', 'connected',          'inuse',    'the user is in'),
    ('reserved', 'no_acknowledgement', 'timeout',  'nobody asked to be let in in time'),
    ('reserved', 'no_login',           'timeout',  'the user was let in and did not come'),
    ('inuse',    'left',               'timeout',  'the user left and did not come back in time'),
    ('new',      'ended',              'timeout',  'the reserved time is over'),
    ('reload',   'ended',              'timeout',  'the reserved time is over'),
    ('reserved', 'ended',              'timeout',  'the reserved time is over'),
    ('inuse',    'ended',              'timeout',  'the reserved time is over'),
    ('new',      'deleted',            'deleted',  'the user gave it back'),
    ('reload',   'deleted',            'deleted',  'the user gave it back'),
    ('reserved', 'deleted',            'deleted',  'the user gave it back'),
    ('inuse',    'deleted',            'deleted',  'the user gave it back'),
    ('new',      'withdrawn',          'complete', 'it was given back before anything had been done for it'),
    ('reload',   'withdrawn',          'complete', 'it was given back before anything had been done for it'),
    ('new',      'moved',              'new',      'its VM host had no room; it gets a computer on another one'),
    ('reload',   'moved',              'reload',   'its VM host had no room; it gets a computer on another one'),
    ('timeout',  'closed',             'reclaim',  'the user is locked out'),
    ('deleted',  'closed',             'reclaim',  'the user is locked out'),
    ('reclaim',  'reclaimed',          'complete', 'the computer is taken back and clean'),
    ('failed',   'reclaimed',          'failed',   'what had been done was undone'),
    ('new',      'gave_up',            'failed',   'it could not be done; the fault says why'),
    ('reload',   'gave_up',            'failed',   'it could not be done; the fault says why'),
    ('reserved', 'gave_up',            'failed',   'it could not be done; the fault says why'),
    ('inuse',    'gave_up',            'failed',   'it could not be done; the fault says why');

CREATE TABLE lab (
    id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    only_one boolean NOT NULL DEFAULT true UNIQUE CONSTRAINT a_database_is_one_lab CHECK (only_one)
);
COMMENT ON TABLE lab IS 'This lab. Its id is in the owner tag of everything that we make on a hypervisor, so that two labs '
    'on one host never take each other''s machines for their own';
INSERT INTO lab DEFAULT VALUES;

CREATE TABLE schema_migration (
    number     integer PRIMARY KEY CHECK (number > 0),
    name       text NOT NULL,
    sha256     text,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE schema_migration IS 'The changes of the schema that this database has; this file has all of them';
COMMENT ON COLUMN schema_migration.sha256 IS 'Of the text that was run; NULL if the database was made from schema.sql itself';
INSERT INTO schema_migration (number, name)
VALUES (1, 'the_lab'), (2, 'images_of_several_disks'), (3, 'images_being_built'),
       (4, 'disks_of_vm_hosts'), (5, 'refusals_with_hints'), (6, 'away_from_full_hosts');

CREATE TABLE module (
    kind text NOT NULL CONSTRAINT is_a_kind_of_module CHECK (kind IN ('provisioning', 'os', 'predictive')),
    name text NOT NULL CONSTRAINT module_name_is_a_file_name CHECK (name ~ '^[a-z][a-z0-9_]{0,63}$'),
    PRIMARY KEY (kind, name)
);
COMMENT ON TABLE module IS 'Modules that the lab uses; vcld finds the file by kind and name. Add a row to use a new one';

-- == People ===========================================================================================================

CREATE TABLE affiliation (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text NOT NULL UNIQUE CONSTRAINT affiliation_has_a_name CHECK (name ~ '^[A-Za-z][A-Za-z0-9._-]{0,63}$'),
    default_duration interval NOT NULL DEFAULT interval '4 hours'
        CONSTRAINT default_duration_is_positive CHECK (default_duration > interval '0')
);
COMMENT ON TABLE affiliation IS 'Where users belong; may have timings of its own';
COMMENT ON COLUMN affiliation.default_duration IS 'How long a request without an end lasts';
INSERT INTO affiliation (name) VALUES ('Local');

CREATE TABLE vcl_user (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name           text NOT NULL
        CONSTRAINT user_name_is_one_that_a_system_takes CHECK (name ~ '^[a-z_][a-z0-9_-]{0,31}$'),
    affiliation_id bigint NOT NULL REFERENCES affiliation,
    uid            integer CONSTRAINT uid_is_not_a_system_account CHECK (uid >= 1000),
    email          text,
    CONSTRAINT user_name_is_unique_in_its_affiliation UNIQUE (name, affiliation_id)
);
COMMENT ON TABLE vcl_user IS 'Who may reserve; the name is the account inside the machine (VCL: user.unityid)';
COMMENT ON COLUMN vcl_user.uid IS 'The account''s number inside the machine; NULL leaves it to the machine';

CREATE TABLE user_key (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES vcl_user ON DELETE CASCADE,
    line    text NOT NULL CONSTRAINT key_is_a_line_of_authorized_keys
        CHECK (line ~ '^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]{40,}={0,3}( [^\n\r]*)?$'),
    UNIQUE (user_id, line)
);
COMMENT ON TABLE user_key IS 'Public ssh keys; a user without one gets a password for each reservation';

CREATE TABLE timing (
    name           text NOT NULL CONSTRAINT is_a_timing
        CHECK (name IN ('acknowledgetimeout', 'initialconnecttimeout', 'reconnecttimeout', 'inuse_check',
                        'end_notice_first', 'end_notice_second', 'ignore_connections_gte', 'connect_poll')),
    affiliation_id bigint REFERENCES affiliation ON DELETE CASCADE,
    seconds        double precision NOT NULL CONSTRAINT timing_is_not_negative CHECK (seconds >= 0)
);
CREATE UNIQUE INDEX one_timing_each ON timing (name, coalesce(affiliation_id, 0));
COMMENT ON TABLE timing IS 'VCL''s timings where they differ from vcld.toml; those of an affiliation go before the lab''s (NULL)';

-- == Images ===========================================================================================================

CREATE TABLE os (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    module_kind text NOT NULL GENERATED ALWAYS AS ('os') STORED,
    module      text NOT NULL,
    FOREIGN KEY (module_kind, module) REFERENCES module (kind, name)
);
COMMENT ON TABLE os IS 'Operating systems, and which OS module drives what runs inside';

CREATE TABLE image (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text NOT NULL UNIQUE CONSTRAINT image_name_is_a_file_name CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    pretty_name      text,
    os_id            bigint NOT NULL REFERENCES os,
    install_type     text NOT NULL,
    min_ram_mb       integer NOT NULL DEFAULT 512 CHECK (min_ram_mb > 0),
    min_cpus         integer NOT NULL DEFAULT 1 CHECK (min_cpus > 0),
    root_access      boolean NOT NULL DEFAULT false,
    set_hostname     boolean NOT NULL DEFAULT true,
    check_user       boolean NOT NULL DEFAULT true,
    load_seconds     integer NOT NULL DEFAULT 600 CHECK (load_seconds > 0),
    default_duration interval CHECK (default_duration > interval '0'),
    deleted_at       timestamptz
);
COMMENT ON TABLE image IS 'What can be reserved; what is loaded is its production revision';
COMMENT ON COLUMN image.install_type IS 'What must be able to load it: qcow2, vmdk, sim (VCL: OS.installtype)';
COMMENT ON COLUMN image.root_access IS 'Users of this image may become root';
COMMENT ON COLUMN image.check_user IS 'false: the reservation is not given up when nobody connects';
COMMENT ON COLUMN image.load_seconds IS 'What a load usually takes, before there is experience (VCL: reloadtime)';

CREATE TABLE image_revision (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    image_id    bigint NOT NULL REFERENCES image,
    revision    integer NOT NULL CHECK (revision >= 0),
    name        text NOT NULL UNIQUE CONSTRAINT revision_name_is_a_file_name CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'),
    production  boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT vcl.now(),
    comments    text,
    deleted_at  timestamptz,
    parent_id   bigint REFERENCES image_revision,
    origin      text NOT NULL DEFAULT '',
    captured_at timestamptz,
    UNIQUE (image_id, revision),
    CONSTRAINT production_is_not_deleted CHECK (NOT (production AND deleted_at IS NOT NULL))
);
CREATE UNIQUE INDEX one_production_revision_per_image ON image_revision (image_id) WHERE production;
COMMENT ON TABLE image_revision IS 'One state of an image, never changed; one of them is production';
COMMENT ON COLUMN image_revision.name IS 'Its name in the repository (VCL: imagename)';
COMMENT ON COLUMN image_revision.parent_id IS 'The revision that it was made from, if it was';
COMMENT ON COLUMN image_revision.origin IS 'The machine that it was captured from; empty if it was built or imported';

CREATE TABLE image_file (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    image_revision_id bigint NOT NULL REFERENCES image_revision ON DELETE CASCADE,
    role              text NOT NULL CONSTRAINT is_a_role_of_a_file
        CHECK (role IN ('system', 'application', 'data', 'boot_parameters', 'kernel', 'initrd')),
    name              text NOT NULL,
    format            text NOT NULL,
    bytes             bigint NOT NULL CHECK (bytes >= 0),
    sha256            text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    position          integer NOT NULL DEFAULT 0 CHECK (position >= 0),
    virtual_bytes     bigint CHECK (virtual_bytes > 0),
    UNIQUE (image_revision_id, name)
);
CREATE UNIQUE INDEX one_system_disk_per_revision ON image_file (image_revision_id) WHERE role = 'system';
COMMENT ON TABLE image_file IS 'What a revision consists of, as its descriptor in the repository says it; vcl images verify compares';
COMMENT ON COLUMN image_file.position IS 'The order in which a machine has its disks';
COMMENT ON COLUMN image_file.virtual_bytes IS 'How large a guest sees a disk; NULL for what is no disk';

CREATE TABLE connect_method (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name    text NOT NULL UNIQUE,
    service text NOT NULL DEFAULT ''
);
COMMENT ON TABLE connect_method IS 'How a user gets in: ssh, RDP';
COMMENT ON COLUMN connect_method.service IS 'What must run inside for it; empty if it always does';

CREATE TABLE connect_method_port (
    connect_method_id bigint NOT NULL REFERENCES connect_method ON DELETE CASCADE,
    protocol          text NOT NULL CHECK (protocol IN ('tcp', 'udp')),
    port              integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    PRIMARY KEY (connect_method_id, protocol, port)
);
COMMENT ON TABLE connect_method_port IS 'What a connect method needs open, for the user''s address only';

CREATE TABLE image_connect_method (
    image_id          bigint NOT NULL REFERENCES image ON DELETE CASCADE,
    connect_method_id bigint NOT NULL REFERENCES connect_method,
    PRIMARY KEY (image_id, connect_method_id)
);
COMMENT ON TABLE image_connect_method IS 'How users get into machines with an image; one with none gets ssh on port 22';
INSERT INTO connect_method (name) VALUES ('ssh');
INSERT INTO connect_method_port SELECT id, 'tcp', 22 FROM connect_method WHERE name = 'ssh';

-- == Machines =========================================================================================================

CREATE TABLE management_node (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL UNIQUE CHECK (name <> ''),
    started_at    timestamptz,
    last_check_in timestamptz
);
COMMENT ON TABLE management_node IS 'Every vcld that ever ran on this database; alive if it checked in lately';

CREATE TABLE vm_profile (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            text NOT NULL UNIQUE,
    repository_path text NOT NULL,
    datastore_path  text NOT NULL,
    vm_path         text NOT NULL,
    network         text NOT NULL DEFAULT '',
    overrides       jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(overrides) = 'object'),
    credentials     text NOT NULL DEFAULT '' CONSTRAINT credentials_are_named_not_kept
        CHECK (credentials ~ '^(file:.+|env:[A-Za-z_][A-Za-z0-9_]*)?$'),
    keep_free_mb    integer CONSTRAINT keep_free_is_not_negative CHECK (keep_free_mb >= 0)
);
COMMENT ON TABLE vm_profile IS 'How machines on a VM host are made';
COMMENT ON COLUMN vm_profile.repository_path IS 'Where images come from: a folder of the management node, or sftp:// or s3:// (docs/images.md)';
COMMENT ON COLUMN vm_profile.datastore_path IS 'Where the host keeps masters, which are only read';
COMMENT ON COLUMN vm_profile.vm_path IS 'Where the host keeps what belongs to one machine';
COMMENT ON COLUMN vm_profile.overrides IS 'In the provisioning module''s own words; it refuses what it does not know';
COMMENT ON COLUMN vm_profile.credentials IS 'file:PATH or env:NAME on the management node; never a secret itself';
COMMENT ON COLUMN vm_profile.keep_free_mb IS 'MiB that loads leave free where masters and machines lie; NULL: a fiftieth of the disk, at '
    'most 1024';

CREATE TABLE vm_host (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    address       text NOT NULL,
    vm_profile_id bigint NOT NULL REFERENCES vm_profile,
    module_kind   text NOT NULL GENERATED ALWAYS AS ('provisioning') STORED,
    module        text NOT NULL,
    in_service    boolean NOT NULL DEFAULT true,
    FOREIGN KEY (module_kind, module) REFERENCES module (kind, name)
);
COMMENT ON TABLE vm_host IS 'Hypervisors';
COMMENT ON COLUMN vm_host.address IS 'How its provisioning module reaches it: a URI, a host name';

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

CREATE TABLE provisioning_install_type (
    module_kind  text NOT NULL GENERATED ALWAYS AS ('provisioning') STORED,
    module       text NOT NULL,
    install_type text NOT NULL,
    PRIMARY KEY (module, install_type),
    FOREIGN KEY (module_kind, module) REFERENCES module (kind, name) ON DELETE CASCADE
);
COMMENT ON TABLE provisioning_install_type IS 'Which images a provisioning module can load (VCL: provisioningOSinstalltype)';

CREATE TABLE computer (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name               text NOT NULL UNIQUE
        CONSTRAINT computer_name_is_a_host_name CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    kind               text NOT NULL DEFAULT 'virtualmachine' CHECK (kind IN ('blade', 'lab', 'virtualmachine')),
    state              computer_state NOT NULL DEFAULT 'available',
    module_kind        text NOT NULL GENERATED ALWAYS AS ('provisioning') STORED,
    module             text NOT NULL,
    vm_host_id         bigint REFERENCES vm_host,
    private_address    inet NOT NULL UNIQUE,
    public_address     inet,
    mac                macaddr UNIQUE,
    ram_mb             integer NOT NULL DEFAULT 1024 CHECK (ram_mb > 0),
    cpus               integer NOT NULL DEFAULT 1 CHECK (cpus > 0),
    host_key           text NOT NULL DEFAULT '',
    loaded_revision_id bigint REFERENCES image_revision,
    prepared           boolean NOT NULL DEFAULT false,
    tainted            boolean NOT NULL DEFAULT false,
    FOREIGN KEY (module_kind, module) REFERENCES module (kind, name),
    CONSTRAINT a_virtual_machine_has_a_host CHECK (kind <> 'virtualmachine' OR vm_host_id IS NOT NULL)
);
COMMENT ON TABLE computer IS 'What can be given to a user: a slot on a VM host, a blade, a lab machine';
COMMENT ON COLUMN computer.state IS 'Set maintenance to give it to nobody, available to give it out again';
COMMENT ON COLUMN computer.private_address IS 'Where the management node reaches it';
COMMENT ON COLUMN computer.public_address IS 'Where its user does; NULL if that is the same';
COMMENT ON COLUMN computer.host_key IS 'Public ssh host key that it was given at its last load';
COMMENT ON COLUMN computer.loaded_revision_id IS 'What it holds; NULL while it holds nothing that we know (VCL: noimage)';
COMMENT ON COLUMN computer.prepared IS 'Its post-load steps are done';
COMMENT ON COLUMN computer.tainted IS 'Since its last load a user could have been in: it is loaded anew for the next one';

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

-- == Requests =========================================================================================================

CREATE TABLE request (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id           bigint NOT NULL REFERENCES vcl_user,
    image_id          bigint NOT NULL REFERENCES image,
    computer_id       bigint REFERENCES computer,
    machines          smallint NOT NULL DEFAULT 1 CONSTRAINT machines_is_1_to_100
        CHECK (machines BETWEEN 1 AND 100 OR refuse(format('a request is for 1 to 100 machines, not for %s', machines),
                                                    'leave machines out for one')),
    state             request_state NOT NULL DEFAULT 'new',
    last_state        request_state NOT NULL DEFAULT 'new',
    state_since       timestamptz NOT NULL DEFAULT vcl.now(),
    start_time        timestamptz NOT NULL DEFAULT vcl.now(),
    end_time          timestamptz NOT NULL,
    wait_for_computer boolean NOT NULL DEFAULT true,
    remote_address    inet CONSTRAINT remote_address_is_one_host
        CHECK (remote_address IS NULL
               OR masklen(remote_address) = CASE family(remote_address) WHEN 4 THEN 32 ELSE 128 END
               OR refuse(format('remote_address %s is a network', remote_address),
                         'give the address of the user''s computer, without a prefix')),
    acknowledged_at   timestamptz,
    created_at        timestamptz NOT NULL DEFAULT vcl.now(),
    fault_kind        text,
    fault_said        text,
    fault_hint        text,
    CONSTRAINT request_ends_after_it_starts CHECK (end_time > start_time),
    CONSTRAINT request_has_a_beginning_and_an_end
        CHECK (isfinite(start_time) AND isfinite(end_time)
               OR refuse(format('the request would last from %s to %s', start_time, end_time),
                         'give moments; end_time can be set later as often as need be')),
    CONSTRAINT a_wished_computer_is_for_one_machine
        CHECK (computer_id IS NULL OR machines = 1
               OR refuse(format('one computer is wished for, and %s machines', machines), 'leave computer_id out, or machines'))
) WITH (fillfactor = 70);
CREATE INDEX request_of_user ON request (user_id);
COMMENT ON TABLE request IS 'What a user asked for. Acknowledge: set remote_address. Extend: set end_time. End: set state to deleted';
COMMENT ON COLUMN request.computer_id IS 'Only this computer will do; NULL: any that can run the image';
COMMENT ON COLUMN request.machines IS 'How many computers; more than one is a cluster';
COMMENT ON COLUMN request.wait_for_computer IS 'false: refused at once if no computer is free';
COMMENT ON COLUMN request.remote_address IS 'Where the user is: machines open for this address only';
COMMENT ON COLUMN request.fault_said IS 'Why it failed, for people; fault_hint says what to do';

CREATE TABLE reservation (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id        bigint NOT NULL REFERENCES request ON DELETE CASCADE,
    computer_id       bigint REFERENCES computer,
    image_revision_id bigint NOT NULL REFERENCES image_revision,
    during            tstzrange NOT NULL,
    released_at       timestamptz,
    occupies          boolean NOT NULL DEFAULT false,
    reported          text,
    state_since       timestamptz NOT NULL DEFAULT vcl.now(),
    due_at            timestamptz,
    claim_token       uuid,
    claimed_by        bigint REFERENCES management_node,
    claimed_at        timestamptz,
    lease_until       timestamptz,
    attempts          integer NOT NULL DEFAULT 0,
    granted_address   inet,
    connected_at      timestamptz,
    last_seen_at      timestamptz,
    notices_sent      integer NOT NULL DEFAULT 0,
    waiting_because   text,
    CONSTRAINT a_computer_is_reserved_once_at_a_time
        EXCLUDE USING gist (int8range(computer_id, computer_id, '[]') WITH &&, during WITH &&)
        WHERE (released_at IS NULL AND computer_id IS NOT NULL),
    CONSTRAINT a_claim_is_whole CHECK (num_nulls(claim_token, claimed_by, claimed_at, lease_until) IN (0, 4)),
    CONSTRAINT occupying_needs_a_computer CHECK (NOT occupies OR computer_id IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX reservation_of_request ON reservation (request_id);
CREATE UNIQUE INDEX one_reservation_has_the_computer ON reservation (computer_id) WHERE occupies;
CREATE INDEX reservation_due ON reservation (due_at) WHERE lease_until IS NULL AND due_at IS NOT NULL AND computer_id IS NOT NULL;
CREATE INDEX reservation_leased ON reservation (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX reservation_without_computer ON reservation (id) WHERE computer_id IS NULL AND released_at IS NULL;
COMMENT ON TABLE reservation IS 'One machine of a request; the lowest id of a request is the parent';
COMMENT ON COLUMN reservation.during IS 'The request''s time; two live ones of one computer cannot overlap';
COMMENT ON COLUMN reservation.released_at IS 'When the computer was free again; NULL while it counts';
COMMENT ON COLUMN reservation.occupies IS 'It has the computer now, from the first thing done to it to the last';
COMMENT ON COLUMN reservation.reported IS 'The event that it reported for the request''s present state';
COMMENT ON COLUMN reservation.due_at IS 'When it is to be worked on next; infinity while claimed, NULL when nothing is left to do';
COMMENT ON COLUMN reservation.claim_token IS 'Every write of an outcome asks for it; a worker that lost its lease finds another';
COMMENT ON COLUMN reservation.attempts IS 'Failed tries in a row in the present state';
COMMENT ON COLUMN reservation.granted_address IS 'For whom the machine is open now';

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

CREATE TABLE vm_host_refusal (
    reservation_id bigint NOT NULL REFERENCES reservation ON DELETE CASCADE,
    vm_host_id     bigint NOT NULL REFERENCES vm_host ON DELETE CASCADE,
    computer_id    bigint REFERENCES computer ON DELETE SET NULL,
    refused_at     timestamptz NOT NULL DEFAULT vcl.now(),
    PRIMARY KEY (reservation_id, vm_host_id)
);
COMMENT ON TABLE vm_host_refusal IS 'VM hosts without room for a reservation, which left them for others and never comes back';
COMMENT ON COLUMN vm_host_refusal.computer_id IS 'The one that it left there';

CREATE TABLE reservation_password (
    reservation_id bigint PRIMARY KEY REFERENCES reservation ON DELETE CASCADE,
    password       text NOT NULL
);
COMMENT ON TABLE reservation_password IS 'Passwords of users without a key; removed when the reservation is over (VCL: reservation.pw)';

-- == What was done ====================================================================================================

CREATE TABLE effect (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    computer_id    bigint NOT NULL REFERENCES computer ON DELETE CASCADE,
    reservation_id bigint REFERENCES reservation ON DELETE SET NULL,
    kind           text NOT NULL CHECK (kind IN ('provisioning', 'os')),
    module         text NOT NULL,
    scope          text NOT NULL CHECK (scope IN ('reservation', 'computer')),
    action         text NOT NULL,
    arguments      jsonb NOT NULL DEFAULT '{}',
    recorded_at    timestamptz NOT NULL DEFAULT vcl.now(),
    undone_at      timestamptz,
    attempts       integer NOT NULL DEFAULT 0,
    last_error     text
);
CREATE INDEX effect_outstanding ON effect (computer_id, id DESC) WHERE undone_at IS NULL;
COMMENT ON TABLE effect IS 'What was done outside, written before it was done: how to undo it';
COMMENT ON COLUMN effect.scope IS 'reservation: undone when that ends; computer: when the computer is loaded anew or taken back';
COMMENT ON COLUMN effect.action IS 'The module''s undo_<action> is called with the arguments';

CREATE TABLE journal (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    request_id     bigint,
    reservation_id bigint,
    computer_id    bigint,
    kind           text NOT NULL CHECK (kind IN ('state', 'step', 'command', 'fault', 'note')),
    said           text NOT NULL,
    fields         jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX journal_of_request ON journal (request_id, id);
CREATE INDEX journal_by_time ON journal USING brin (at);
COMMENT ON TABLE journal IS 'What happened, in order; no foreign keys, so that it outlives what it tells of';

CREATE TABLE load_log (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    reservation_id bigint NOT NULL,
    computer_id    bigint NOT NULL,
    step           text NOT NULL,
    info           text NOT NULL DEFAULT ''
);
CREATE INDEX load_log_of_reservation ON load_log (reservation_id, id);
CREATE INDEX load_log_by_time ON load_log USING brin (at);
COMMENT ON TABLE load_log IS 'Steps of a load as they begin (VCL: computerloadlog); like the journal it outlives what it tells of';

CREATE TABLE accounting_log (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id        bigint NOT NULL,
    reservation_id    bigint NOT NULL UNIQUE,
    user_id           bigint NOT NULL REFERENCES vcl_user,
    image_id          bigint NOT NULL REFERENCES image,
    image_revision_id bigint NOT NULL REFERENCES image_revision,
    computer_id       bigint REFERENCES computer ON DELETE SET NULL,
    start_time        timestamptz NOT NULL,
    initial_end       timestamptz NOT NULL,
    loaded_at         timestamptz,
    connected_at      timestamptz,
    remote_address    inet,
    final_end         timestamptz,
    ending            ending NOT NULL DEFAULT 'none',
    computer_blamed   boolean NOT NULL DEFAULT false
);
CREATE INDEX accounting_of_computer ON accounting_log (computer_id, id DESC);
COMMENT ON TABLE accounting_log IS 'Who had what from when to when, and how it ended (VCL: log, sublog); outlives the request';
COMMENT ON COLUMN accounting_log.computer_blamed IS 'It failed for a reason that may be the computer''s';

-- == Questions in plain words =========================================================================================

CREATE FUNCTION some_of(names text[]) RETURNS text LANGUAGE sql STABLE
    RETURN coalesce(array_to_string(names[1:8], ', ') || CASE WHEN cardinality(names) > 8 THEN ', ...' ELSE '' END, '');
COMMENT ON FUNCTION some_of IS 'A few names for a hint';

CREATE FUNCTION user_named(wanted text) RETURNS bigint LANGUAGE plpgsql STABLE
    SECURITY DEFINER SET search_path = vcl, pg_temp AS $$
DECLARE
    found bigint[];
BEGIN
    SELECT array_agg(u.id) INTO found FROM vcl_user u JOIN affiliation a ON a.id = u.affiliation_id
     WHERE wanted IN (u.name, u.name || '@' || a.name);
    IF cardinality(found) = 1 THEN
        RETURN found[1];
    ELSIF cardinality(found) > 1 THEN
        RAISE EXCEPTION 'there are % users named "%"', cardinality(found), wanted
            USING ERRCODE = 'invalid_parameter_value', HINT = format('say %s@AFFILIATION', wanted);
    END IF;
    RAISE EXCEPTION 'there is no user named "%"', wanted USING ERRCODE = 'invalid_parameter_value',
        HINT = coalesce('known users: ' || nullif(some_of((SELECT array_agg(name ORDER BY starts_with(name, left(wanted, 1)) DESC,
            name) FROM vcl_user)), ''), 'no users yet') || '. Add one: vcl users add NAME';
END $$;
COMMENT ON FUNCTION user_named IS 'The user of that name, or name@affiliation; an error that names the known ones otherwise';

CREATE FUNCTION image_named(wanted text) RETURNS bigint LANGUAGE plpgsql STABLE
    SECURITY DEFINER SET search_path = vcl, pg_temp AS $$
DECLARE
    found bigint;
BEGIN
    SELECT id INTO found FROM image WHERE name = wanted AND deleted_at IS NULL;
    IF found IS NULL THEN
        RAISE EXCEPTION 'there is no image named "%"', wanted USING ERRCODE = 'invalid_parameter_value',
            HINT = coalesce('known images: ' || nullif(some_of((SELECT array_agg(name ORDER BY starts_with(name,
                left(wanted, 1)) DESC, name) FROM image WHERE deleted_at IS NULL)), ''), 'no images yet');
    END IF;
    RETURN found;
END $$;
COMMENT ON FUNCTION image_named IS 'The image of that name; an error that names the known ones otherwise';

CREATE FUNCTION computer_named(wanted text) RETURNS bigint LANGUAGE plpgsql STABLE
    SECURITY DEFINER SET search_path = vcl, pg_temp AS $$
DECLARE
    found bigint;
BEGIN
    SELECT id INTO found FROM computer WHERE name = wanted;
    IF found IS NULL THEN
        RAISE EXCEPTION 'there is no computer named "%"', wanted USING ERRCODE = 'invalid_parameter_value',
            HINT = coalesce('known computers: ' || nullif(some_of((SELECT array_agg(name ORDER BY starts_with(name,
                left(wanted, 1)) DESC, name) FROM computer)), ''), 'no computers yet');
    END IF;
    RETURN found;
END $$;
COMMENT ON FUNCTION computer_named IS 'The computer of that name; an error that names the known ones otherwise';

CREATE FUNCTION why_not(c computer, i image) RETURNS text LANGUAGE sql STABLE RETURN
    CASE
        WHEN NOT EXISTS (SELECT FROM provisioning_install_type t WHERE t.module = c.module AND t.install_type = i.install_type)
            THEN format('its provisioning module %s loads no %s images', c.module, i.install_type)
        WHEN c.ram_mb < i.min_ram_mb THEN format('it has %s MiB of memory, the image needs %s', c.ram_mb, i.min_ram_mb)
        WHEN c.cpus < i.min_cpus THEN format('it has %s CPUs, the image needs %s', c.cpus, i.min_cpus)
    END;
COMMENT ON FUNCTION why_not IS 'Why a computer could never run an image; NULL if it could';

CREATE VIEW fit AS
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

CREATE FUNCTION is_suspect(wanted bigint) RETURNS boolean LANGUAGE sql STABLE RETURN (
    SELECT count(DISTINCT image_id) >= 2 FROM accounting_log
     WHERE computer_id = wanted AND computer_blamed AND id > coalesce((
        SELECT max(id) FROM accounting_log WHERE computer_id = wanted AND loaded_at IS NOT NULL AND NOT computer_blamed), 0));
COMMENT ON FUNCTION is_suspect IS 'Has a computer failed with two different images since it last worked: evidence against it';

-- == What happens by itself ===========================================================================================

CREATE FUNCTION is_daemon() RETURNS boolean LANGUAGE sql STABLE
    RETURN has_table_privilege(current_user, 'vcl.effect', 'INSERT');
COMMENT ON FUNCTION is_daemon IS 'Is this the daemon, or an administrator, and not a front end';

CREATE FUNCTION request_is_made() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = vcl, pg_temp AS $$
DECLARE
    wanted image;
    because text;
BEGIN
    SELECT * INTO wanted FROM image WHERE id = NEW.image_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no image with the id %', coalesce(NEW.image_id::text, 'NULL')
            USING ERRCODE = 'foreign_key_violation', HINT = 'say image_named(''NAME'')';
    ELSIF NOT EXISTS (SELECT FROM vcl_user WHERE id = NEW.user_id) THEN
        RAISE EXCEPTION 'there is no user with the id %', coalesce(NEW.user_id::text, 'NULL')
            USING ERRCODE = 'foreign_key_violation', HINT = 'say user_named(''NAME'')';
    ELSIF NEW.computer_id IS NOT NULL AND NOT EXISTS (SELECT FROM computer WHERE id = NEW.computer_id) THEN
        RAISE EXCEPTION 'there is no computer with the id %', NEW.computer_id
            USING ERRCODE = 'foreign_key_violation', HINT = 'say computer_named(''NAME''), or leave computer_id out';
    END IF;
    NEW.end_time := coalesce(NEW.end_time, NEW.start_time + coalesce(wanted.default_duration, (
        SELECT a.default_duration FROM vcl_user u JOIN affiliation a ON a.id = u.affiliation_id WHERE u.id = NEW.user_id),
        interval '4 hours'));
    NEW.acknowledged_at := CASE WHEN NEW.remote_address IS NOT NULL THEN vcl.now() END;
    NEW.last_state := NEW.state;
    IF NEW.state NOT IN ('new', 'reload') THEN
        RAISE EXCEPTION 'a request begins as "new" (or "reload"), not as "%"', NEW.state
            USING ERRCODE = 'check_violation', HINT = 'leave state out';
    ELSIF NEW.end_time <= NEW.start_time THEN
        RAISE EXCEPTION 'the request would end (%) before it starts (%)', NEW.end_time, NEW.start_time
            USING ERRCODE = 'check_violation', HINT = 'give an end_time after start_time, or leave it out';
    ELSIF NEW.end_time <= vcl.now() THEN
        RAISE EXCEPTION 'the request would be over already: it ends at %', NEW.end_time
            USING ERRCODE = 'check_violation', HINT = 'give an end_time in the future, or leave it out';
    ELSIF wanted.deleted_at IS NOT NULL OR NOT EXISTS (
            SELECT FROM image_revision r WHERE r.image_id = wanted.id AND r.production) THEN
        RAISE EXCEPTION 'image "%" has no production revision', wanted.name
            USING ERRCODE = 'check_violation', HINT = 'choose another image, or have a revision made production';
    ELSIF NEW.computer_id IS NOT NULL THEN
        SELECT why_not(c, wanted) INTO because FROM computer c WHERE c.id = NEW.computer_id;
        IF because IS NOT NULL THEN
            RAISE EXCEPTION 'computer "%" cannot run image "%": %',
                (SELECT name FROM computer WHERE id = NEW.computer_id), wanted.name, because
                USING ERRCODE = 'check_violation', HINT = 'leave computer_id out to get one that can';
        END IF;
    ELSIF NOT EXISTS (SELECT FROM fit WHERE image_id = wanted.id) THEN
        RAISE EXCEPTION 'no computer of this lab can run image "%"', wanted.name USING ERRCODE = 'check_violation',
            HINT = format('it needs a computer whose module loads %s images, with %s MiB of memory and %s CPUs',
                          wanted.install_type, wanted.min_ram_mb, wanted.min_cpus);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER request_is_made BEFORE INSERT ON request FOR EACH ROW EXECUTE FUNCTION request_is_made();

CREATE FUNCTION who_has(wanted bigint, span tstzrange, but_not bigint) RETURNS text LANGUAGE sql STABLE
    RETURN (SELECT format('request %s has it from %s to %s', request_id, lower(during), upper(during)) FROM reservation
             WHERE computer_id = wanted AND released_at IS NULL AND during && span AND request_id <> but_not
             ORDER BY lower(during) LIMIT 1);
COMMENT ON FUNCTION who_has IS 'Which other request has a computer in that time, for people';

CREATE FUNCTION request_was_made() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = vcl, pg_temp AS $$
BEGIN
    FOR machine IN 1 .. NEW.machines LOOP
        INSERT INTO reservation (request_id, computer_id, image_revision_id, during, due_at, waiting_because)
        SELECT NEW.id, NEW.computer_id, r.id, tstzrange(NEW.start_time, NEW.end_time), greatest(NEW.start_time, vcl.now()),
               CASE WHEN NEW.start_time > vcl.now() THEN 'it starts later' END
          FROM image_revision r WHERE r.image_id = NEW.image_id AND r.production;
    END LOOP;
    INSERT INTO accounting_log (request_id, reservation_id, user_id, image_id, image_revision_id, computer_id, start_time,
                                initial_end)
    SELECT NEW.id, id, NEW.user_id, NEW.image_id, image_revision_id, computer_id, NEW.start_time, NEW.end_time
      FROM reservation WHERE request_id = NEW.id;
    PERFORM pg_notify('vcl_due', 'queue');
    PERFORM pg_notify('vcl_request', json_build_object('id', NEW.id, 'state', NEW.state, 'step', NULL)::text);
    RETURN NULL;
EXCEPTION WHEN exclusion_violation THEN
    RAISE EXCEPTION 'computer "%" is taken: %', (SELECT name FROM computer WHERE id = NEW.computer_id),
        who_has(NEW.computer_id, tstzrange(NEW.start_time, NEW.end_time), NEW.id)
        USING ERRCODE = 'exclusion_violation', HINT = 'ask for another time, or leave computer_id out to get a free one';
END $$;
CREATE TRIGGER request_was_made AFTER INSERT ON request FOR EACH ROW EXECUTE FUNCTION request_was_made();

CREATE FUNCTION request_state_may_change() RETURNS trigger LANGUAGE plpgsql SET search_path = vcl, pg_temp AS $$
BEGIN
    IF NEW.state <> 'deleted' AND NOT is_daemon() THEN
        RAISE EXCEPTION 'only vcld moves a request to "%"', NEW.state USING ERRCODE = 'insufficient_privilege',
            HINT = 'a front end ends a request: set state to deleted';
    ELSIF NOT EXISTS (SELECT FROM lifecycle_edge WHERE source = OLD.state AND target = NEW.state) THEN
        RAISE EXCEPTION 'request % is "%": it cannot become "%"', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'check_violation', HINT = CASE WHEN NEW.state = 'deleted' THEN 'it is over already'
                ELSE 'see the table lifecycle_edge' END;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER a_request_state_may_change BEFORE UPDATE OF state ON request FOR EACH ROW WHEN (OLD.state <> NEW.state)
    EXECUTE FUNCTION request_state_may_change();

CREATE FUNCTION request_is_given_back() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = vcl, pg_temp AS $$
BEGIN
    NEW.last_state := OLD.state;
    NEW.state_since := vcl.now();
    PERFORM FROM reservation WHERE request_id = NEW.id FOR UPDATE;
    IF OLD.state IN ('new', 'reload') AND NOT EXISTS (SELECT FROM reservation WHERE request_id = NEW.id AND occupies) THEN
        -- Nothing was done for it, so nothing is to be undone. Whoever claimed it finds its token gone.
        NEW.state := 'complete';
        NEW.last_state := 'deleted';
        UPDATE reservation SET released_at = vcl.now(), due_at = NULL, claim_token = NULL, claimed_by = NULL, claimed_at = NULL,
               lease_until = NULL, waiting_because = NULL WHERE request_id = NEW.id;
        UPDATE accounting_log SET ending = 'deleted', final_end = vcl.now() WHERE request_id = NEW.id;
    ELSE
        PERFORM wake(NEW.id);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER b_request_is_given_back BEFORE UPDATE OF state ON request FOR EACH ROW
    WHEN (OLD.state <> 'deleted' AND NEW.state = 'deleted') EXECUTE FUNCTION request_is_given_back();

CREATE FUNCTION wake(wanted bigint) RETURNS void LANGUAGE plpgsql SET search_path = vcl, pg_temp AS $$
BEGIN
    UPDATE reservation SET due_at = vcl.now() WHERE request_id = wanted AND due_at > vcl.now()
       AND (lower(during) <= vcl.now() OR occupies);
    PERFORM pg_notify('vcl_due', '');
    PERFORM pg_notify('vcl_cancel', id::text) FROM reservation WHERE request_id = wanted AND claim_token IS NOT NULL;
END $$;
COMMENT ON FUNCTION wake IS 'Makes a request''s reservations due now, and tells who works on them to look again';

CREATE FUNCTION request_changes() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = vcl, pg_temp AS $$
DECLARE
    blocked reservation;
BEGIN
    IF NEW.state IN ('timeout', 'deleted', 'reclaim', 'complete', 'failed') AND OLD.state = NEW.state THEN
        RAISE EXCEPTION 'request % is over: it is "%"', NEW.id, NEW.state
            USING ERRCODE = 'check_violation', HINT = 'make a new request';
    ELSIF NEW.end_time <= NEW.start_time THEN
        RAISE EXCEPTION 'request % would end (%) before it starts (%)', NEW.id, NEW.end_time, NEW.start_time
            USING ERRCODE = 'check_violation', HINT = 'give an end_time after start_time';
    END IF;
    IF NEW.remote_address IS DISTINCT FROM OLD.remote_address THEN
        NEW.acknowledged_at := coalesce(OLD.acknowledged_at, vcl.now());
    END IF;
    IF NEW.end_time <> OLD.end_time THEN
        SELECT other.* INTO blocked FROM reservation mine JOIN reservation other ON other.computer_id = mine.computer_id
         WHERE mine.request_id = NEW.id AND mine.released_at IS NULL AND other.request_id <> NEW.id
           AND other.released_at IS NULL AND other.during && tstzrange(NEW.start_time, NEW.end_time)
         ORDER BY lower(other.during) LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'request % cannot last until %: its computer is reserved by request % from %',
                NEW.id, NEW.end_time, blocked.request_id, lower(blocked.during)
                USING ERRCODE = 'exclusion_violation', HINT = format('it can last until %s', lower(blocked.during));
        END IF;
        UPDATE reservation SET during = tstzrange(NEW.start_time, NEW.end_time)
         WHERE request_id = NEW.id AND released_at IS NULL;
        PERFORM pg_notify('vcl_due', 'queue');
    END IF;
    PERFORM wake(NEW.id);
    RETURN NEW;
END $$;
CREATE TRIGGER c_request_changes BEFORE UPDATE OF remote_address, end_time ON request FOR EACH ROW
    WHEN (OLD.remote_address IS DISTINCT FROM NEW.remote_address OR OLD.end_time <> NEW.end_time)
    EXECUTE FUNCTION request_changes();

CREATE FUNCTION request_moved() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = vcl, pg_temp AS $$
BEGIN
    INSERT INTO journal (request_id, kind, said, fields)
    VALUES (NEW.id, CASE WHEN NEW.state = 'failed' THEN 'fault' ELSE 'state' END,
            coalesce(CASE WHEN NEW.state = 'failed' THEN NEW.fault_said END, OLD.state || ' -> ' || NEW.state),
            jsonb_strip_nulls(jsonb_build_object('from', OLD.state, 'to', NEW.state, 'hint', NEW.fault_hint)));
    IF NEW.state IN ('timeout', 'deleted', 'failed') THEN
        -- A machine of a cluster that never got a computer has nothing to undo: the others must not wait for it.
        WITH never AS (
            UPDATE reservation SET released_at = vcl.now(), due_at = NULL, waiting_because = NULL
             WHERE request_id = NEW.id AND computer_id IS NULL AND released_at IS NULL RETURNING id)
        UPDATE accounting_log SET final_end = vcl.now(), ending = CASE WHEN ending <> 'none' THEN ending
                                      WHEN NEW.state = 'timeout' THEN 'EOR' ELSE NEW.state::text END
          FROM never WHERE reservation_id = never.id;
    END IF;
    PERFORM pg_notify('vcl_request', json_build_object('id', NEW.id, 'state', NEW.state, 'step', NULL)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER request_moved AFTER UPDATE OF state ON request FOR EACH ROW WHEN (OLD.state <> NEW.state)
    EXECUTE FUNCTION request_moved();

CREATE FUNCTION computer_is_free() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = vcl, pg_temp AS $$
BEGIN
    UPDATE reservation SET due_at = vcl.now() WHERE computer_id = NEW.computer_id AND released_at IS NULL
       AND int8range(computer_id, computer_id, '[]') && int8range(NEW.computer_id, NEW.computer_id, '[]')
       AND during && tstzrange(NULL, vcl.now(), '[]') AND due_at > vcl.now();
    IF EXISTS (SELECT FROM reservation WHERE computer_id IS NULL AND released_at IS NULL) THEN
        PERFORM pg_notify('vcl_due', 'queue');
    ELSIF FOUND THEN
        PERFORM pg_notify('vcl_due', '');
    END IF;
    DELETE FROM reservation_password WHERE reservation_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER computer_is_free AFTER UPDATE OF released_at ON reservation FOR EACH ROW
    WHEN (OLD.released_at IS NULL AND NEW.released_at IS NOT NULL AND NEW.computer_id IS NOT NULL)
    EXECUTE FUNCTION computer_is_free();

CREATE FUNCTION reservation_waits() RETURNS trigger LANGUAGE plpgsql SET search_path = vcl, pg_temp AS $$
BEGIN
    PERFORM pg_notify('vcl_request', json_build_object('id', NEW.request_id, 'state', (
        SELECT state FROM request WHERE id = NEW.request_id), 'step', NULL, 'because', NEW.waiting_because)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER reservation_waits AFTER UPDATE OF waiting_because ON reservation FOR EACH ROW
    WHEN (NEW.waiting_because IS DISTINCT FROM OLD.waiting_because AND NEW.waiting_because IS NOT NULL)
    EXECUTE FUNCTION reservation_waits();

CREATE FUNCTION steps_were_taken() RETURNS trigger LANGUAGE plpgsql SET search_path = vcl, pg_temp AS $$
BEGIN
    PERFORM pg_notify('vcl_request', json_build_object('id', q.id, 'state', q.state, 'step', latest.step)::text)
       FROM (SELECT DISTINCT ON (reservation_id) reservation_id, step FROM taken ORDER BY reservation_id, id DESC) latest
       JOIN reservation r ON r.id = latest.reservation_id JOIN request q ON q.id = r.request_id;
    RETURN NULL;
END $$;
CREATE TRIGGER steps_were_taken AFTER INSERT ON load_log REFERENCING NEW TABLE AS taken FOR EACH STATEMENT
    EXECUTE FUNCTION steps_were_taken();

CREATE FUNCTION computer_comes_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('vcl_due', 'queue');
    RETURN NULL;
END $$;
CREATE TRIGGER computer_comes_back AFTER UPDATE OF state ON computer FOR EACH ROW
    WHEN (OLD.state IN ('failed', 'maintenance', 'vmhostinuse') AND NEW.state = 'available')
    EXECUTE FUNCTION computer_comes_back();
CREATE TRIGGER computer_comes AFTER INSERT ON computer FOR EACH STATEMENT EXECUTE FUNCTION computer_comes_back();
CREATE TRIGGER vm_host_comes_back AFTER UPDATE OF in_service ON vm_host FOR EACH ROW
    WHEN (NEW.in_service AND NOT OLD.in_service) EXECUTE FUNCTION computer_comes_back();
CREATE TRIGGER vm_host_has_room_again AFTER UPDATE ON vm_host_disk FOR EACH ROW
    WHEN (OLD.is_full AND NOT NEW.is_full) EXECUTE FUNCTION computer_comes_back();

-- == How it goes ======================================================================================================

CREATE TABLE step (
    name     text PRIMARY KEY,
    sentence text NOT NULL
);
COMMENT ON TABLE step IS 'What the steps of the load log say to people; equal to model/steps.py, which a test proves';
INSERT INTO step (name, sentence) VALUES
    ('statuscheck', 'asking the machine what it holds'),
    ('doesimageexists', 'looking for the image on the host'),
    ('copyfrompartnerMN', 'copying the image to the host'),
    ('startload', 'clearing the slot'),
    ('transfervm', 'making the machine''s disk'),
    ('vmsetupconfig', 'writing the machine''s description'),
    ('startvm', 'starting the machine'),
    ('bootstate', 'waiting for the guest to boot'),
    ('machinebooted', 'the guest answers'),
    ('loadimagecomplete', 'the image is loaded'),
    ('nodeready', 'the machine is ready'),
    ('addinguser', 'adding the user'),
    ('reserved', 'waiting for the user'),
    ('postreserve', 'the user may connect'),
    ('connected', 'the user is in'),
    ('removing', 'taking the machine back'),
    ('moving', 'moving to another VM host');

CREATE VIEW request_status AS
SELECT q.id, u.name AS "user", i.name AS image, c.name AS computer, q.state, q.state_since AS since,
       CASE WHEN q.state = 'failed' THEN q.fault_said
            WHEN r.claim_token IS NOT NULL THEN coalesce(s.sentence, 'at work')
            WHEN r.computer_id IS NULL AND r.released_at IS NULL THEN coalesce(r.waiting_because, 'waiting for a computer')
            ELSE r.waiting_because END AS doing,
       host(coalesce(c.public_address, c.private_address)) AS address,
       CASE WHEN q.state IN ('reserved', 'inuse') AND r.granted_address IS NOT NULL
            THEN format('ssh %s@%s', u.name, host(coalesce(c.public_address, c.private_address))) END AS connect,
       q.start_time, q.end_time, host(q.remote_address) AS remote_address, q.fault_said AS fault, q.fault_hint AS hint,
       moved.said AS moved
  FROM request q
  JOIN vcl_user u ON u.id = q.user_id
  JOIN image i ON i.id = q.image_id
  LEFT JOIN LATERAL (SELECT * FROM reservation x WHERE x.request_id = q.id ORDER BY x.id LIMIT 1) r ON true
  LEFT JOIN computer c ON c.id = r.computer_id
  LEFT JOIN LATERAL (SELECT step FROM load_log l WHERE l.reservation_id = r.id ORDER BY l.id DESC LIMIT 1) l ON true
  LEFT JOIN step s ON s.name = l.step
  LEFT JOIN LATERAL (
       SELECT string_agg(refused.hosts || ' had no room, moved to ' || refused.moved_to, '; ' ORDER BY refused.id) AS said
         FROM (SELECT x.id, string_agg(h.name, ', ' ORDER BY n.refused_at, h.name) AS hosts,
                      now_on.name || coalesce(' on ' || now_at.name, '') AS moved_to
                 FROM vm_host_refusal n JOIN vm_host h ON h.id = n.vm_host_id
                 JOIN reservation x ON x.id = n.reservation_id
                 JOIN computer now_on ON now_on.id = x.computer_id
                 LEFT JOIN vm_host now_at ON now_at.id = now_on.vm_host_id
                WHERE x.request_id = q.id GROUP BY x.id, now_on.name, now_at.name) refused) moved ON true;
COMMENT ON VIEW request_status IS 'How each request goes, for people and front ends: a line a request';
COMMENT ON COLUMN request_status.moved IS 'Which VM hosts had no room for its machines, and where they were moved to; NULL if none was';

-- == Building images ==================================================================================================

CREATE TABLE image_build (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key           text NOT NULL CHECK (key <> ''),
    spec          jsonb NOT NULL CONSTRAINT a_spec_has_fields CHECK (jsonb_typeof(spec) = 'object'),
    asked_by      text NOT NULL DEFAULT session_user,
    asked_at      timestamptz NOT NULL DEFAULT vcl.now(),
    state         text NOT NULL DEFAULT 'queued'
                  CONSTRAINT is_a_build_state CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    cancel_asked  boolean NOT NULL DEFAULT false,
    builder       text,
    claim_token   uuid,
    lease_until   timestamptz,
    attempts      integer NOT NULL DEFAULT 0,
    began_at      timestamptz,
    ended_at      timestamptz,
    revision_name text,
    said          text,
    hint          text,
    CONSTRAINT a_running_build_is_leased CHECK ((state = 'running') = (claim_token IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT what_has_ended_has_an_end CHECK ((state IN ('done', 'failed', 'cancelled')) = (ended_at IS NOT NULL))
);
CREATE UNIQUE INDEX one_live_build_of_a_key ON image_build (key) WHERE state IN ('queued', 'running');
COMMENT ON TABLE image_build IS 'Images to be built, in the order asked for; a builder takes them one after another, never vcld';
COMMENT ON COLUMN image_build.key IS 'What it is for: who asks for a key that is queued or built already waits for the same build';
COMMENT ON COLUMN image_build.spec IS 'What to build, as a profile of vcl build says it; holds hashes of passwords, never passwords';
COMMENT ON COLUMN image_build.attempts IS 'How many builders took it; one that dies leaves it to the next, but not for ever';

CREATE TABLE image_build_log (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    image_build_id bigint NOT NULL REFERENCES image_build ON DELETE CASCADE,
    at             timestamptz NOT NULL DEFAULT vcl.now(),
    line           text NOT NULL
);
CREATE INDEX image_build_log_of_build ON image_build_log (image_build_id, id);
COMMENT ON TABLE image_build_log IS 'What a build said, line by line';

CREATE FUNCTION build_changed() RETURNS trigger LANGUAGE plpgsql SET search_path = vcl, pg_temp AS $$
BEGIN
    PERFORM pg_notify('vcl_build', NEW.id::text);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION build_changed IS 'Wakes builders, and who follows a build';
CREATE TRIGGER build_changed AFTER INSERT OR UPDATE OF state, cancel_asked ON image_build
    FOR EACH ROW EXECUTE FUNCTION build_changed();

-- == Roles ============================================================================================================

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['vcl_daemon', 'vcl_frontend', 'vcl_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;  -- another database of this server was quicker
                WHEN insufficient_privilege THEN
                    RAISE NOTICE 'role % is missing and % may not create it: have it created, then grant again', wanted, current_user;
                    CONTINUE;
            END;
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA vcl TO %I', wanted);
        CASE wanted
            WHEN 'vcl_daemon' THEN
                GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA vcl TO vcl_daemon;
            WHEN 'vcl_frontend' THEN
                GRANT INSERT (user_id, image_id, computer_id, machines, start_time, end_time, wait_for_computer, remote_address)
                    ON request TO vcl_frontend;
                GRANT UPDATE (state, end_time, remote_address) ON request TO vcl_frontend;
                GRANT SELECT (id, state, start_time, end_time) ON request TO vcl_frontend;
                GRANT SELECT ON request_status, lifecycle_edge TO vcl_frontend;
            WHEN 'vcl_reader' THEN
                GRANT SELECT ON affiliation, vcl_user, timing, os, image, image_revision, image_file, connect_method,
                    connect_method_port, image_connect_method, management_node, vm_host, vm_host_disk, vm_host_refusal, computer,
                    module, provisioning_install_type, request, reservation, load_log, accounting_log, lifecycle_edge, step,
                    request_status TO vcl_reader;
        END CASE;
    END LOOP;
    EXECUTE format('ALTER DATABASE %I SET search_path = vcl, public', current_database());
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'search_path of this database is not set: say SET search_path = vcl before writing names without vcl.';
END $$;
REVOKE EXECUTE ON FUNCTION request_is_made, request_was_made, request_is_given_back, request_changes, request_moved,
    computer_is_free FROM PUBLIC;
