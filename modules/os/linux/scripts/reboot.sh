if [ -d /run/systemd/system ]; then systemctl reboot; elif has reboot; then reboot; else busybox reboot; fi
