# Until users may log in, in the system's own words. systemd says no while /run/nologin is there, which it makes early and
# systemd-user-sessions removes; that it has started this unit it says by a link. Asking systemctl costs an emulated
# machine 0.3 s of the boot that we wait for, so only a system without the link is asked.
sessions=systemd-user-sessions.service

logins_allowed() {
    [ ! -e /run/nologin ] || return 1
    [ ! -L "/run/systemd/units/invocation:$sessions" ] || return 0
    systemctl --quiet is-active $sessions && return
    # A boot that is over without it (masked, not there): this system has no word for it to wait for.
    case $(systemctl is-system-running) in running | degraded) return 0 ;; esac
    return 1
}

[ ! -e /etc/nologin ] || refuse "the image lets nobody in: it has an /etc/nologin"
if [ -d /run/systemd/system ]; then
    until logins_allowed; do sleep 0.2; done
else
    while [ -e /run/nologin ]; do sleep 0.2; done
fi
