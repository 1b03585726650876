# $1: services to be running, with spaces between; then as for gate.
start_services() {
    for service in $1; do
        if [ -d /run/systemd/system ]; then systemctl start "$service"; else service "$service" start; fi
    done
}

start_services "$1"
shift
gate "$@"
