set -e
command -v nano
command -v ping
