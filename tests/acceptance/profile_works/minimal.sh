set -e
systemctl is-active systemd-networkd
