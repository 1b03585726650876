-- A queue of images to be built, beside the reservations.
SET search_path = vcl;

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

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'vcl_daemon') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON image_build, image_build_log TO vcl_daemon;
    END IF;
END $$;
