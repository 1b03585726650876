-- What a front end says wrongly is refused with a hint, and a request has an end.
SET search_path = vcl;

CREATE FUNCTION refuse(said text, hint text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', said USING ERRCODE = 'check_violation', HINT = hint;
END $$;
COMMENT ON FUNCTION refuse IS 'The last word of a check: what is wrong, and what to do; a check by itself has no HINT';

CREATE FUNCTION is_no_state(word text) RETURNS boolean LANGUAGE sql
    RETURN refuse(format('there is no state "%s"', word),
                  'to end a request set its state to "deleted"; vcld sets the others');
COMMENT ON FUNCTION is_no_state IS 'Refuses a word that is none of the states of a request';

ALTER DOMAIN request_state DROP CONSTRAINT is_a_request_state;
ALTER DOMAIN request_state ADD CONSTRAINT is_a_request_state CHECK (
        VALUE IS NULL OR VALUE IN ('new', 'reload', 'reserved', 'inuse', 'timeout', 'deleted', 'reclaim', 'complete', 'failed')
        OR is_no_state(VALUE));

ALTER TABLE request DISABLE TRIGGER USER;
UPDATE request SET start_time = created_at WHERE NOT isfinite(start_time);
UPDATE request SET end_time = greatest(start_time, vcl.now()) + interval '100 years' WHERE NOT isfinite(end_time);
ALTER TABLE request ENABLE TRIGGER USER;
UPDATE reservation r SET during = tstzrange(q.start_time, q.end_time) FROM request q
 WHERE q.id = r.request_id AND r.released_at IS NULL AND r.during <> tstzrange(q.start_time, q.end_time);

ALTER TABLE request
    DROP CONSTRAINT machines_is_1_to_100,
    ADD CONSTRAINT machines_is_1_to_100
        CHECK (machines BETWEEN 1 AND 100 OR refuse(format('a request is for 1 to 100 machines, not for %s', machines),
                                                    'leave machines out for one')),
    DROP CONSTRAINT remote_address_is_one_host,
    ADD CONSTRAINT remote_address_is_one_host
        CHECK (remote_address IS NULL
               OR masklen(remote_address) = CASE family(remote_address) WHEN 4 THEN 32 ELSE 128 END
               OR refuse(format('remote_address %s is a network', remote_address),
                         'give the address of the user''s computer, without a prefix')),
    DROP CONSTRAINT a_wished_computer_is_for_one_machine,
    ADD CONSTRAINT a_wished_computer_is_for_one_machine
        CHECK (computer_id IS NULL OR machines = 1
               OR refuse(format('one computer is wished for, and %s machines', machines), 'leave computer_id out, or machines')),
    ADD CONSTRAINT request_has_a_beginning_and_an_end
        CHECK (isfinite(start_time) AND isfinite(end_time)
               OR refuse(format('the request would last from %s to %s', start_time, end_time),
                         'give moments; end_time can be set later as often as need be'));

COMMENT ON FUNCTION commit_soon IS 'This transaction need not wait for the disk: should a crash of the server lose it, what it says is '
    'found out again, or was followed by nothing. Never in the last one before something is done outside';
