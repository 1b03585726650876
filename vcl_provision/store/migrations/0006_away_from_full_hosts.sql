-- A reservation whose VM host has no room for it goes to another one, and says so.
SET search_path = vcl;

INSERT INTO lifecycle_edge (source, event, target, sentence) VALUES
    ('new',    'moved', 'new',    'its VM host had no room; it gets a computer on another one'),
    ('reload', 'moved', 'reload', 'its VM host had no room; it gets a computer on another one');
INSERT INTO step (name, sentence) VALUES ('moving', 'moving to another VM host');

CREATE TABLE vm_host_refusal (
    reservation_id bigint NOT NULL REFERENCES reservation ON DELETE CASCADE,
    vm_host_id     bigint NOT NULL REFERENCES vm_host ON DELETE CASCADE,
    computer_id    bigint REFERENCES computer ON DELETE SET NULL,
    refused_at     timestamptz NOT NULL DEFAULT vcl.now(),
    PRIMARY KEY (reservation_id, vm_host_id)
);
COMMENT ON TABLE vm_host_refusal IS 'VM hosts without room for a reservation, which left them for others and never comes back';
COMMENT ON COLUMN vm_host_refusal.computer_id IS 'The one that it left there';

CREATE OR REPLACE VIEW request_status AS
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

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'vcl_daemon') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON vm_host_refusal TO vcl_daemon;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'vcl_reader') THEN
        GRANT SELECT ON vm_host_refusal TO vcl_reader;
    END IF;
END $$;
