set -e
command -v nft
command -v sudo
