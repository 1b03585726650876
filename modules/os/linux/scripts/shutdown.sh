if [ -d /run/systemd/system ]; then systemctl poweroff; elif has poweroff; then poweroff; else busybox poweroff; fi
