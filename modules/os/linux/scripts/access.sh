# As for gate.
gate "$@"
